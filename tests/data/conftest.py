"""Small COCO datasets, written by the tests."""

import json

import cv2
import numpy as np
import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.errors import UserError


def write_image(path, width, height, seed=0):
    """A JPEG of smooth noise: compressible, and different everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


class CocoFolder:
    """A dataset in the plain layout whose annotations tests can modify."""

    def __init__(self, root):
        self.root = root
        self.image_dir = root / "train"
        self.ann_file = root / "annotations" / "train.json"
        self.image_dir.mkdir(parents=True)
        self.ann_file.parent.mkdir()
        self.content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        }

    def add_image(self, image_id, width=64, height=48, file_name=None, boxes=(), category_id=3, **extra):
        name = file_name or f"{image_id}.jpg"
        write_image(self.image_dir / name, width, height, seed=len(self.content["images"]))
        self.content["images"].append({"id": image_id, "file_name": name, "width": width, "height": height, **extra})
        for box in boxes:
            self.add_box(image_id, box, category_id)

    def add_box(self, image_id, bbox, category_id=3, **extra):
        number = len(self.content["annotations"]) + 1
        self.content["annotations"].append(
            {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0, **extra}
        )

    def write(self, indent=None):
        self.ann_file.write_text(json.dumps(self.content, indent=indent))
        return self.ann_file, self.image_dir


@pytest.fixture
def coco(tmp_path):
    """An empty `CocoFolder`."""
    return CocoFolder(tmp_path / "data")


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A written `CocoFolder` of 23 images with 0 to 6 boxes each."""
    folder = CocoFolder(tmp_path_factory.mktemp("many") / "data")
    rng = np.random.default_rng(0)
    for number in range(23):
        width, height = int(rng.integers(60, 120)), int(rng.integers(40, 100))
        folder.add_image(number + 100, width, height)
        for _ in range(number % 7):
            left, top = rng.uniform(0, 0.5, 2) * (width, height)
            side = rng.uniform(0.2, 0.5, 2) * (width, height)
            folder.add_box(number + 100, [left, top, *side], int(rng.choice([3, 7])))
    folder.write()
    return folder


def coco_error(folder, **options):
    """The message of the error that reading a `CocoFolder` raises."""
    with pytest.raises(UserError) as caught:
        read_coco(*folder.write(), **options)
    text = str(caught.value)
    assert str(folder.ann_file) in text
    assert "\n" not in text
    return text
