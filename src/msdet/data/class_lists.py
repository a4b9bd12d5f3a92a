"""Classes of the public datasets, in the label order of published weights."""

from __future__ import annotations

# COCO (Lin et al., 2014): category id and name of the 80 classes that are annotated; the ids have gaps.
COCO_CATEGORIES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
COCO_NAMES = tuple(COCO_CATEGORIES.values())

# PASCAL VOC (Everingham et al., 2010), in alphabetical order.
VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def published_classes(num_classes: int, label_map: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names and category ids of published weights with `num_classes` outputs; both empty if no dataset matches.

    Args:
        num_classes: outputs of the network, without background.
        label_map: "dense" or "coco_id_minus_1"; with the latter a COCO network has 90 outputs for its 80 classes.
    """
    if label_map == "coco_id_minus_1":
        return (COCO_NAMES, tuple(COCO_CATEGORIES)) if num_classes == 90 else ((), ())
    if num_classes == len(COCO_NAMES):
        return COCO_NAMES, tuple(COCO_CATEGORIES)
    if num_classes == len(VOC_NAMES):
        return VOC_NAMES, tuple(range(1, len(VOC_NAMES) + 1))
    return (), ()
