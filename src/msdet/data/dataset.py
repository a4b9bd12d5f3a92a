"""Samples of annotated images, and the dataset that holds them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msdet.data.images.decode import MAX_IMAGE_PIXELS, decode_image, read_bytes
from msdet.ops.boxes import xyxy_to_xywh


@dataclass(slots=True)
class Sample:
    """One annotated image.

    Attributes:
        image_path: the image file.
        image_id: string or int with which detections are written.
        width, height: pixels of the image that the boxes refer to; 0 if unknown.
        boxes: float32 (n, 4) xyxy in pixels of the image.
        labels: int32 (n,) object classes from 0.
        iscrowd: bool (n,); crowd regions are excluded from training and passed to the scorer.
        difficult: bool (n,); VOC's flag of objects that its AP ignores.
    """

    image_path: Path
    image_id: str | int
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    iscrowd: np.ndarray
    difficult: np.ndarray

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Training targets: boxes (m, 4) and labels (m,) without the crowd regions."""
        if not self.iscrowd.any():
            return self.boxes, self.labels
        keep = ~self.iscrowd
        return self.boxes[keep], self.labels[keep]


@dataclass(slots=True)
class ReadReport:
    """Counts of what reading the annotations kept, clipped and skipped.

    Attributes:
        images, boxes, crowds, images_without_boxes: counts of what was kept (`boxes` excludes crowds).
        clipped: boxes clipped because they exceeded their image by at most one pixel.
        skipped: boxes skipped on request because they are invalid, or because they are known defects of COCO.
        missing: images skipped on request because their file is missing.
        notes: one line for each of the first few clipped or skipped boxes.
    """

    images: int = 0
    boxes: int = 0
    crowds: int = 0
    images_without_boxes: int = 0
    clipped: int = 0
    skipped: int = 0
    missing: int = 0
    notes: list[str] = field(default_factory=list)


class ImageRecord(Protocol):
    """A sample of any task: detection or classification."""

    @property
    def image_path(self) -> Path: ...

    @property
    def image_id(self) -> str | int: ...


class ImageDataset(Protocol):
    """A dataset of any task: detection or classification."""

    @property
    def ann_file(self) -> Path: ...

    @property
    def samples(self) -> Sequence[ImageRecord]: ...

    def __len__(self) -> int: ...


class ImageStore(Protocol):
    """Reads images that are not separate files, such as those of MindRecord shards."""

    def read(self, path: Path) -> bytes:
        """The encoded bytes of an image; raises UserError if they cannot be read."""
        ...

    def size(self, path: Path) -> int:
        """The number of encoded bytes of an image."""
        ...


@dataclass
class DetectionDataset:
    """Annotated images of one split.

    Attributes:
        samples: the images, in the order of the annotation file.
        class_names: name of each label.
        category_ids: category id of each label in the annotation file.
        ann_file, image_dir: where the samples came from; error messages name them.
        report: counts from reading the annotations.
        format: "coco", "voc", "yolo", "txt", "mindrecord" or "imagefolder".
        store: reads the images where they are not separate files.
        xywh: float64 (n, 4) left, top, width, height in pixels of all boxes in the order of the samples, in the full
            precision of the annotation file, for the scorers; None: use the boxes of the samples. Not sent to workers.
        areas: float64 (n,) annotated px^2 of these boxes for AP by object size, NaN where unknown; None if all are
            unknown. Not sent to workers.
        skipped_image_ids: images of the annotations that are not in `samples`: neither their objects nor detections on
            them are scored.
        other_categories: category ids of the annotations without a class here: detections of them are not scored.
    """

    samples: list[Sample]
    class_names: list[str]
    category_ids: list[int]
    ann_file: Path
    image_dir: Path
    report: ReadReport = field(default_factory=ReadReport)
    format: str = "coco"
    store: ImageStore | None = None
    areas: np.ndarray | None = None
    xywh: np.ndarray | None = None
    skipped_image_ids: frozenset[str | int] = frozenset()
    other_categories: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.samples)

    def image_bytes(self, sample: Sample) -> bytes:
        """The encoded bytes of the image of a sample.

        Raises:
            UserError: it cannot be read.
        """
        return (
            read_bytes(sample.image_path, self.ann_file) if self.store is None else self.store.read(sample.image_path)
        )

    def decode(self, sample: Sample, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
        """The image of a sample, uint8 (H, W, 3) RGB; see `decode_image`.

        Raises:
            UserError: it cannot be read or decoded.
        """
        data = None if self.store is None else self.store.read(sample.image_path)
        size = (sample.width, sample.height)
        return decode_image(sample.image_path, ann_file=self.ann_file, size=size, max_pixels=max_pixels, data=data)

    def without_difficult(self) -> DetectionDataset:
        """The same dataset without the objects marked difficult."""
        easy = np.concatenate([np.zeros(0, bool), *(~sample.difficult for sample in self.samples)])
        return self._of([_easy(sample) for sample in self.samples], easy)

    def without_images(self, positions: Collection[int]) -> DetectionDataset:
        """The same dataset without the samples at `positions`; their ids are added to `skipped_image_ids`."""
        gone = set(positions)
        if not gone:
            return self
        samples = [sample for position, sample in enumerate(self.samples) if position not in gone]
        counts = [len(sample.boxes) for sample in self.samples]
        stay = np.repeat(np.array([position not in gone for position in range(len(counts))], bool), counts)
        ids = frozenset(self.samples[position].image_id for position in gone)
        return replace(self._of(samples, stay), skipped_image_ids=self.skipped_image_ids | ids)

    def boxes_and_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) float64 [x, y, w, h] in pixels and areas (n,) in px^2 of all samples, for the scorers.

        Boxes have the precision of the annotation file; an unknown area is width x height.
        """
        boxes = self.xywh
        if boxes is None:
            boxes = xyxy_to_xywh(np.concatenate([np.zeros((0, 4)), *(sample.boxes for sample in self.samples)]))
        areas = boxes[:, 2] * boxes[:, 3]
        if self.areas is not None:
            areas = np.where(np.isnan(self.areas), areas, self.areas)
        return boxes, areas

    def _of(self, samples: list[Sample], kept: np.ndarray) -> DetectionDataset:
        """The same dataset with other samples, which contain the boxes selected by the mask `kept` (n,)."""
        areas = None if self.areas is None else self.areas[kept]
        xywh = None if self.xywh is None else self.xywh[kept]
        return replace(self, samples=samples, areas=areas, xywh=xywh)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes get a few large arrays instead of hundreds of thousands of small ones: pickling 118,287 COCO
        # samples takes a fraction of a second.
        samples = self.samples
        state = {**self.__dict__, "areas": None, "xywh": None}
        state["samples"] = {
            "paths": [str(sample.image_path) for sample in samples],
            "ids": [sample.image_id for sample in samples],
            "sizes": np.array([(sample.width, sample.height) for sample in samples], np.int64).reshape(-1, 2),
            "counts": np.array([len(sample.boxes) for sample in samples], np.int64),
            "boxes": _joined([sample.boxes for sample in samples], (0, 4), np.float32),
            "labels": _joined([sample.labels for sample in samples], (0,), np.int32),
            "iscrowd": _joined([sample.iscrowd for sample in samples], (0,), bool),
            "difficult": _joined([sample.difficult for sample in samples], (0,), bool),
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state["samples"]
        self.__dict__.update(state)
        self.samples = samples_from_arrays(
            packed["paths"],
            packed["ids"],
            packed["sizes"].tolist(),
            packed["counts"],
            packed["boxes"],
            packed["labels"],
            packed["iscrowd"],
            packed["difficult"],
        )


def _easy(sample: Sample) -> Sample:
    if not sample.difficult.any():
        return sample
    keep = ~sample.difficult
    columns = {name: getattr(sample, name)[keep] for name in ("boxes", "labels", "iscrowd", "difficult")}
    return replace(sample, **columns)


def _joined(arrays: list[np.ndarray], empty_shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(empty_shape, dtype)


def samples_from_arrays(
    paths: Sequence[str],
    image_ids: Sequence[str | int],
    sizes: Sequence[Sequence[int]],
    counts: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    iscrowd: np.ndarray,
    difficult: np.ndarray,
) -> list[Sample]:
    """Splits flat arrays, ordered by image, into samples whose arrays are views of them.

    Args:
        paths, image_ids: of each of the n images.
        sizes: (width, height) of each image, in pixels.
        counts: (n,) number of boxes of each image, crowds included.
        boxes: float32 (sum of counts, 4) xyxy.
        labels: int32 (sum of counts,).
        iscrowd, difficult: bool (sum of counts,).
    """
    ends = np.cumsum(counts)
    starts = (ends - counts).tolist()
    columns = (boxes, labels, iscrowd, difficult)
    return [
        Sample(Path(path), image_id, size[0], size[1], *(column[start:end] for column in columns))
        for path, image_id, size, start, end in zip(paths, image_ids, sizes, starts, ends.tolist(), strict=True)
    ]
