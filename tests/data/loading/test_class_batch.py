"""Batches of classifiers: labels, and images that cannot be read."""

import pytest

from msdet.data.formats.imagefolder import read_image_folder
from msdet.data.loading.loaders import class_loader
from msdet.data.transforms.pipeline import plain_pipeline
from msdet.errors import UserError
from tests.data.conftest import write_image


def test_unreadable_images_are_replaced_with_their_labels(tmp_path, caplog):
    for number, name in enumerate(("cat", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    dataset = read_image_folder(tmp_path)
    (tmp_path / "cat" / "a.jpg").write_bytes(b"")
    for training, label in ((True, 1), (False, 0)):
        with class_loader(
            dataset,
            plain_pipeline(),
            3,
            [(32, 32)],
            training=training,
            shuffle=False,
            num_workers=0,
            on_bad_image="skip",
        ) as loader:
            (batch,) = loader.epoch(0)
        assert batch.labels.tolist() == [label, 1, 2]
        assert (batch.images[0] == 128).all() != training
    assert "epoch 1 skipped 1 images" in caplog.text
    with (
        pytest.raises(UserError, match="a.jpg is empty"),
        class_loader(dataset, plain_pipeline(), 3, [(32, 32)], training=True, num_workers=0) as loader,
    ):
        list(loader.epoch(0))
