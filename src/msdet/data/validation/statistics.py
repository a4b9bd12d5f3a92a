"""Box statistics of a dataset, for its check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msdet.data.categories import UNUSED_CLASS
from msdet.data.dataset import DetectionDataset
from msdet.data.transforms.resize import plan_resize


@dataclass
class BoxTable:
    """All target boxes of a dataset (without crowds), as columns.

    Attributes:
        rows: int64 (n,) position of the sample.
        labels: int32 (n,).
        boxes: float32 (n, 4) xyxy px.
        sizes: int64 (n, 2) width and height of the box's image.
    """

    rows: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, dataset: DetectionDataset) -> BoxTable:
        """Collects the boxes of a dataset."""
        targets = [sample.targets() for sample in dataset.samples]
        counts = [len(boxes) for boxes, _ in targets]
        rows = np.repeat(np.arange(len(targets)), counts)
        sizes = np.array([(sample.width, sample.height) for sample in dataset.samples], np.int64).reshape(-1, 2)
        boxes = np.concatenate([boxes for boxes, _ in targets]) if targets else np.zeros((0, 4), np.float32)
        labels = np.concatenate([labels for _, labels in targets]) if targets else np.zeros(0, np.int32)
        return cls(rows, labels, boxes, sizes[rows])

    def duplicates(self) -> np.ndarray:
        """bool (n,): boxes that repeat an earlier box of the same image and class."""
        keys = np.concatenate([self.rows[:, None], self.labels[:, None], self.boxes], axis=1).astype(np.float64)
        order = np.lexsort(keys.T)
        duplicates = np.zeros(len(keys), bool)
        duplicates[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
        return duplicates

    def sides_at(self, size: tuple[int, int], mode: str) -> np.ndarray:
        """float32 (n, 2): width and height of each box in px of a network input of `size` (h, w).

        Args:
            size: (h, w) of the input.
            mode: resize mode, see `plan_resize`; unknown modes are treated as letterbox.
        """
        mode = mode if mode in ("stretch", "letterbox", "letterbox_top_left") else "letterbox"
        codes, size_of = np.unique((self.sizes[:, 0] << 32) + self.sizes[:, 1], return_inverse=True)
        plans = [plan_resize(max(code >> 32, 1), max(code & 0xFFFFFFFF, 1), size, mode) for code in codes.tolist()]
        scale = np.array([(plan.scale_x, plan.scale_y) for plan in plans], np.float32).reshape(-1, 2)[size_of]
        return (self.boxes[:, 2:] - self.boxes[:, :2]) * scale


def class_counts(dataset: DetectionDataset, table: BoxTable) -> list[tuple[str, int, int]]:
    """Name, number of boxes and number of images of each class, in label order, without unused ids."""
    boxes = np.bincount(table.labels, minlength=len(dataset.class_names))
    pairs = np.unique(np.stack([table.rows, table.labels]), axis=1)
    images = np.bincount(pairs[1].astype(np.int64), minlength=len(dataset.class_names))
    rows = zip(dataset.class_names, boxes.tolist(), images.tolist(), strict=True)
    return [row for row in rows if row[0] != UNUSED_CLASS]
