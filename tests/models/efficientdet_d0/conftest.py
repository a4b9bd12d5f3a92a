"""A tiny dataset for the tests of EfficientDet."""

import json

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Six images with objects of the categories 2 and 5; the last one has none."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for split in ("train", "val"):
        (folder / split).mkdir()
    for i in range(6):
        pixels = np.full((60, 80, 3), 90, np.uint8)
        for k in range(min(5 - i, 2)):
            x, y = rng.integers(0, 40, 2).tolist()
            pixels[y : y + 20, x : x + 30] = (200, 60 * k, 40)
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": (2, 5)[k],
                                "bbox": [x, y, 30, 20], "area": 600, "iscrowd": 0})  # fmt: skip
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60})
        for split in ("train", "val"):
            cv2.imwrite(str(folder / split / f"{i}.jpg"), pixels)
    categories = [{"id": 2, "name": "red"}, {"id": 5, "name": "blue"}]
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder
