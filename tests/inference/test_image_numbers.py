"""The lists beside numbered result files: which number an image bears, and what does not fit."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from msdet.data.transforms.resize import plan_resize
from msdet.errors import UserError
from msdet.inference.image_numbers import ImageNumbering
from msdet.inference.predictors import DetectionFilePredictor
from msdet.inference.result_files import ResultFiles

SIZE = (64, 64)


class Images:
    """A data set as far as it matters here."""

    def __init__(self, *ids):
        self.samples = [SimpleNamespace(image_id=i) for i in ids]
        self.ann_file = Path("val.json")

    def __len__(self):
        return len(self.samples)


DATASET = Images(7, "b", 9)


def numbers(tmp_path, ids=None, sides=None):
    cfg = SimpleNamespace(image_id="", image_shape="")
    for name, values in (("image_id", ids), ("image_shape", sides)):
        if values is not None:
            np.save(tmp_path / f"{name}.npy", values)
            setattr(cfg, name, str(tmp_path / f"{name}.npy"))
    return ImageNumbering(cfg, DATASET)


def test_without_lists_the_place_in_the_data_set_counts(tmp_path):
    found = ImageNumbering(SimpleNamespace(), DATASET)
    assert [found.number_of(i) for i in range(3)] == [0, 1, 2]
    found.check_size(0, plan_resize(5, 6, SIZE, "stretch"), "a.jpg")


def test_the_list_of_ids_gives_the_number(tmp_path):
    np.save(tmp_path / "id.npy", np.array([[9], [7], [1], [8]]))
    found = ImageNumbering(SimpleNamespace(image_id=str(tmp_path / "id.npy"), image_shape=""), Images(7, 8, 9))
    assert [found.number_of(i) for i in range(3)] == [1, 3, 0]


def test_sizes_are_checked_by_number_in_either_order(tmp_path):
    found = numbers(tmp_path, sides=np.array([[[80, 60]], [[60, 80]], [[5, 5]]], np.float32))
    for index in (0, 1):
        found.check_size(index, plan_resize(80, 60, SIZE, "stretch"), "a.jpg")
    with pytest.raises(UserError, match=r"c\.jpg has 80 x 60 px, but number 2 of .*image_shape\.npy has 5 x 5"):
        found.check_size(2, plan_resize(80, 60, SIZE, "stretch"), "c.jpg")
    short = numbers(tmp_path, sides=np.array([[80, 60]]))
    with pytest.raises(UserError, match=r"has 1 entries, none for b\.jpg, number 1"):
        short.check_size(1, plan_resize(80, 60, SIZE, "stretch"), "b.jpg")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([7, 9]), "image_id.npy does not contain image b of val.json"),
        (np.array([{"a": 1}], object), "image_id.npy is not a numpy array"),
        (np.array([0.5]), "needs 1 integers per image"),
        (np.array(["x"]), "needs 1 integers per image"),
    ],
)
def test_lists_that_are_none(tmp_path, ids, message):
    with pytest.raises(UserError, match=message):
        numbers(tmp_path, ids=ids)


def test_files_that_are_absent_or_something_else(tmp_path):
    (tmp_path / "a.npy").write_text("no array")
    for name in ("a.npy", "none.npy"):
        with pytest.raises(UserError, match=f"{name} is not a numpy array"):
            ImageNumbering(SimpleNamespace(image_id=str(tmp_path / name)), DATASET)


def test_the_results_of_an_image_are_those_of_its_number(tmp_path):
    """As the old program named them, numbered from the last image to the first."""
    for number in range(3):
        np.full((2, 4), number, np.float32).tofile(tmp_path / f"YoloV3-DarkNet_coco_bs_1_{number}_0.bin")
        np.full((2, 3), number, np.float32).tofile(tmp_path / f"YoloV3-DarkNet_coco_bs_1_{number}_1.bin")
    files = DetectionFilePredictor.__new__(DetectionFilePredictor)
    files.files = ResultFiles(tmp_path, ["a", "b", "c"])
    files.raw_shapes, files.decoded_shapes = [(1, 9)], [(1, 2, 4), (1, 2, 3)]
    files.dataset = Images(7, 8, 9)
    for sample in files.dataset.samples:
        sample.image_path = Path(f"COCO_val2014_{sample.image_id}.jpg")
    np.save(tmp_path / "id.npy", np.array([9, 8, 7]))
    np.save(tmp_path / "shape.npy", np.array([[60, 80], [60, 80], [9, 9]]))
    lists = SimpleNamespace(image_id=str(tmp_path / "id.npy"), image_shape=str(tmp_path / "shape.npy"))
    files.numbers = ImageNumbering(lists, files.dataset)
    geometry = plan_resize(80, 60, SIZE, "stretch")
    for index, number in ((2, 0), (1, 1)):
        boxes, scores = files.predict(SimpleNamespace(indices=np.array([index]), geometry=[geometry]))
        assert boxes.shape == (1, 2, 4) and np.all(boxes == number) and np.all(scores == number)
    with pytest.raises(UserError, match=r"COCO_val2014_7\.jpg has 80 x 60 px"):
        files.predict(SimpleNamespace(indices=np.array([0]), geometry=[geometry]))
