"""A small COCO dataset, and detections with a known score."""

import json

SMALL = {
    "images": [{"id": 7, "width": 100, "height": 100}, {"id": 8, "width": 100, "height": 100}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 11, "name": "owl"}],
    "annotations": [
        {"id": 0, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 1, "image_id": 8, "category_id": 3, "bbox": [20, 20, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 2, "image_id": 8, "category_id": 9, "bbox": [50, 50, 20, 20], "area": 400, "iscrowd": 0},
    ],
}


# One of two cats is detected exactly; one dog exactly, after a false positive.
FOUND = [
    {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 0.9},
    {"image_id": 8, "category_id": 9, "bbox": [50, 50, 20, 20], "score": 0.3},
    {"image_id": 7, "category_id": 9, "bbox": [0, 0, 30, 30], "score": 0.8},
]


def write(path, value):
    path.write_text(json.dumps(value))
    return path
