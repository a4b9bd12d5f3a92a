"""The loaders of the tasks: which replacement and transform they choose."""

import numpy as np
import pytest

from msdet.data.formats.imagefolder import read_image_folder
from msdet.data.loading.loaders import class_loader, detection_loader
from msdet.data.transforms.pipeline import plain_pipeline
from tests.data.conftest import write_image

REPLACEMENTS = [
    ("error", True, "none"),
    ("error", False, "none"),
    ("skip", True, "next"),
    ("skip", False, "grey"),
]


@pytest.fixture
def image_folder(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    return read_image_folder(tmp_path)


@pytest.mark.parametrize(("on_bad_image", "training", "replacement"), REPLACEMENTS)
def test_replacement_of_unreadable_images(dataset, image_folder, on_bad_image, training, replacement):
    options = {"training": training, "on_bad_image": on_bad_image, "num_workers": 0}
    for loader in (
        detection_loader(dataset, plain_pipeline(), 2, [(32, 32)], **options),
        class_loader(image_folder, plain_pipeline(), 2, [(32, 32)], **options),
    ):
        assert loader._maker.replacement == replacement


def test_seed_and_limits_reach_the_batches(dataset):
    loader = detection_loader(
        dataset, plain_pipeline(), 2, [(32, 32)], training=True, seed=5, max_boxes=3, max_image_pixels=7, num_workers=0
    )
    assert (loader._maker.seed, loader._maker.max_boxes, loader._maker.max_image_pixels) == (5, 3, 7)


def test_a_pipeline_is_applied_to_decoded_images(image_folder):
    with class_loader(image_folder, plain_pipeline(), 2, [(32, 24)], training=False, num_workers=0) as loader:
        (batch,) = loader.epoch(0)
    assert batch.images.shape == (2, 32, 24, 3) and batch.labels.tolist() == [0, 1]


def test_a_transform_gets_the_path(image_folder):
    def fill(path, canvas, rng, max_pixels, data=None):
        canvas[...] = len(path.parent.name)

    with class_loader(image_folder, fill, 2, [(8, 8)], training=False, num_workers=0) as loader:
        (batch,) = loader.epoch(0)
    np.testing.assert_array_equal(batch.images, 3)
