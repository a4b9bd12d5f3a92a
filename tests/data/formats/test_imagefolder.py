"""Classification datasets with one folder per class: listing, batches, unusable folders."""

import cv2
import numpy as np
import pytest
from mindspore.dataset import vision

from msdet.data.formats.imagefolder import check_same_classes, class_folders, read_image_folder
from msdet.data.images.decode import decode_image, read_encoded
from msdet.data.images.file_names import READABLE_SUFFIXES
from msdet.data.loading.loaders import class_loader
from msdet.data.transforms.centre_crop import ResizeAndCrop
from msdet.data.transforms.pipeline import Pipeline
from msdet.errors import UserError

EVAL = Pipeline(place=ResizeAndCrop())


def make_class_folders(root, classes=("cat", "dog"), images_per_class=3, side=40):
    """Folders `classes` with images of one colour per class."""
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(images_per_class):
            image = np.full((side + i, side + 10 * k, 3), (60 * k + 5 * i, 90, 200), np.uint8)
            cv2.imwrite(str(root / name / f"{i}.{'png' if i % 2 else 'JPEG'}"), image)
    return root


def no_boxes():
    return np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


def test_classes_and_files_are_sorted(tmp_path):
    folder = read_image_folder(make_class_folders(tmp_path / "train", ("dog", "cat")))
    assert folder.class_names == ["cat", "dog"]
    assert folder.files == ["cat/0.JPEG", "cat/1.png", "cat/2.JPEG", "dog/0.JPEG", "dog/1.png", "dog/2.JPEG"]
    assert folder.labels.tolist() == [0, 0, 0, 1, 1, 1] and folder.labels.dtype == np.int32
    sample = folder.samples[4]
    assert (sample.image_id, sample.label, sample.image_path) == ("dog/1.png", 1, tmp_path / "train" / "dog" / "1.png")


def test_configured_classes_define_the_labels(tmp_path):
    folder = read_image_folder(make_class_folders(tmp_path / "train"), ["dog", "cat"])
    assert folder.class_names == ["dog", "cat"] and folder.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert folder.fingerprint() != read_image_folder(tmp_path / "train").fingerprint()


def test_other_files_are_skipped_with_a_warning(tmp_path, caplog):
    root = make_class_folders(tmp_path / "train")
    (root / "cat" / "notes.txt").write_text("x")
    for name in ("b.GIF", "c.gif"):
        (root / "dog" / name).write_bytes(b"GIF89a")
    (root / "cat" / ".hidden.jpg").write_text("x")
    (root / ".cache").mkdir()
    (root / "readme.md").write_text("x")
    assert len(read_image_folder(root)) == 6
    skipped = "skipped 3 files that are not readable images (2 .gif, 1 .txt): cat/notes.txt, dog/b.GIF, dog/c.gif"
    assert skipped in caplog.text


@pytest.mark.parametrize("suffix", READABLE_SUFFIXES)
def test_every_readable_format_is_decoded(tmp_path, suffix, caplog):
    image = np.full((40, 60, 3), (30, 90, 200), np.uint8)
    written = {".jpe": ".jpg", ".jfif": ".jpg"}.get(suffix, suffix)
    _, data = cv2.imencode(written, image[:, :, 0] if suffix == ".pgm" else image)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / f"a{suffix.upper()}").write_bytes(data.tobytes())
    folder = read_image_folder(tmp_path)
    assert folder.files == [f"cat/a{suffix.upper()}"] and not caplog.text
    with class_loader(folder, EVAL, 1, [(32, 32)], training=False, num_workers=0) as loader:
        (batch,) = [b.images.copy() for b in loader.epoch(0)]
    np.testing.assert_allclose(batch[0, 16, 16], (30, 30, 30) if suffix == ".pgm" else (200, 90, 30), atol=4)


def test_unusable_folders_are_reported(tmp_path):
    with pytest.raises(UserError, match="absent is not a folder"):
        class_folders(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty contains no class"):
        read_image_folder(tmp_path / "empty")
    (tmp_path / "empty" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    with pytest.raises(UserError, match="move its 1 images into one folder per class"):
        read_image_folder(tmp_path / "empty")
    root = make_class_folders(tmp_path / "train")
    (root / "emu").mkdir()
    with pytest.raises(UserError, match=r"class 'emu' has no images: .*train/emu"):
        read_image_folder(root)
    with pytest.raises(UserError, match="2 only in .*: cat, emu; 1 only in the configured classes: ape"):
        read_image_folder(root, ["ape", "dog"])
    with pytest.raises(UserError, match="1 only in train: b$"):
        check_same_classes(["a"], ["a", "b"], "val", "train")


def test_labels_and_pixels_of_batches(tmp_path):
    folder = read_image_folder(make_class_folders(tmp_path / "val", images_per_class=5))
    with class_loader(folder, EVAL, 4, [(32, 32)], training=False, num_workers=0) as loader:
        batches = [(b.images.copy(), *list(b.arrays().values())[1:], b.image_ids) for b in loader.epoch(0)]
    assert [len(batch[0]) for batch in batches] == [4, 4, 2], "no image is skipped"
    assert np.concatenate([batch[2] for batch in batches]).tolist() == [0] * 5 + [1] * 5
    assert sum([batch[3] for batch in batches], []) == folder.files
    for images, valid, labels, ids in batches:
        assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3) and valid.tolist() == [[32, 32]] * len(ids)
        for image, label, name in zip(images, labels, ids, strict=True):
            place = int(name.split("/")[1].split(".")[0])
            np.testing.assert_allclose(image[16, 16], (200, 90, 60 * label + 5 * place), atol=3)


def test_a_damaged_image_is_reported_when_its_batch_is_read(tmp_path):
    root = make_class_folders(tmp_path / "val")
    path = root / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    folder = read_image_folder(root)
    with (
        class_loader(folder, EVAL, 4, [(32, 32)], training=False, num_workers=0) as loader,
        pytest.raises(UserError, match=r"dog/1\.png"),
    ):
        list(loader.epoch(0))
    with pytest.raises(UserError, match=r"dog/1\.png"):
        read_encoded(path)[0]
    path.write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        read_encoded(path)[0]


def test_hidden_and_system_files_are_ignored(tmp_path, caplog):
    (tmp_path / "cat").mkdir()
    cv2.imwrite(str(tmp_path / "cat" / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    for name in ("__MACOSX", ".thumbnails", "@eaDir"):
        (tmp_path / name).mkdir()
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    folder = read_image_folder(tmp_path)
    assert (folder.class_names, folder.files) == (["cat"], ["cat/a.jpg"])
    assert not caplog.records
    (tmp_path / "cat" / "b.HEIC").write_bytes(b"x")
    read_image_folder(tmp_path)
    assert "b.HEIC; convert the images among them to JPEG or PNG" in caplog.text


def test_real_images_are_decoded_and_resized_as_by_mindspore(data_dir):
    folder = read_image_folder(data_dir / "imagenet_mini" / "val")
    assert len(folder) == len(folder.class_names) == 100
    canvas = np.empty((256, 256, 3), np.uint8)
    for i in range(0, 100, 9):
        path = folder[i].image_path
        image = vision.Decode()(read_encoded(path)[0])
        np.testing.assert_array_equal(decode_image(path), image)
        ResizeAndCrop()(image, *no_boxes(), canvas, np.random.default_rng(0))
        np.testing.assert_array_equal(canvas, vision.CenterCrop(256)(vision.Resize(292)(image)))
