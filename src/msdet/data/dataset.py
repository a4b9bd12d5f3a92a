"""What a source of annotations yields: samples, and the dataset that holds them."""

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
        image_id: the id detections are written with; any string or int.
        width, height: pixels of the image its boxes refer to; 0 where neither annotations nor file told.
        boxes: float32 (n, 4) xyxy in pixels of the image.
        labels: int32 (n,) object classes from 0.
        iscrowd: bool (n,); a crowd region is ignored in training and known to the scorer.
        difficult: bool (n,); VOC's mark of objects that its own score leaves out.
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
        """Boxes (m, 4) and labels (m,) without the crowd regions: what training aims at."""
        if not self.iscrowd.any():
            return self.boxes, self.labels
        keep = ~self.iscrowd
        return self.boxes[keep], self.labels[keep]


@dataclass(slots=True)
class ReadReport:
    """What reading the annotations found, and what it changed.

    Attributes:
        images, boxes, crowds, images_without_boxes: counts of what was kept (`boxes` counts no crowds).
        clipped: boxes cut because they stuck out of their image by rounding (at most one pixel).
        skipped: boxes left out because the caller asked to skip bad ones, or because they are known defects of COCO.
        missing: images left out because their file is not there and the caller asked to skip such.
        notes: one line for each of the first few boxes clipped or skipped.
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
    """What is known of an image of any task."""

    @property
    def image_path(self) -> Path: ...

    @property
    def image_id(self) -> str | int: ...


class ImageDataset(Protocol):
    """What is asked of a dataset of any task."""

    @property
    def ann_file(self) -> Path: ...

    @property
    def samples(self) -> Sequence[ImageRecord]: ...

    def __len__(self) -> int: ...


class ImageStore(Protocol):
    """Where images are that are no files of their own."""

    def read(self, path: Path) -> bytes:
        """The bytes of an image; raises UserError if they cannot be read."""
        ...

    def size(self, path: Path) -> int:
        """Their number."""
        ...


@dataclass
class DetectionDataset:
    """Annotated images of one split.

    Attributes:
        samples: the images, in the order of the annotation file.
        class_names: name of each label.
        category_ids: category id, as the annotation file counts it, of each label.
        ann_file, image_dir: where the samples came from; error messages name them.
        report: what reading found.
        format: "coco", "voc", "yolo", "txt" or "mindrecord".
        store: where the images are, if they are no files.
        xywh: float64 (n, 4) left, top, width, height in px of each box of all samples in their order, with the digits
            of their file, for the scorers; None: as the samples have them. Workers do without.
        areas: float64, px^2 of each of those boxes, NaN if unknown; None if all are. Scores by size go by them; workers
            do without.
        skipped_image_ids: ids of images that the annotations list but `samples` does not: neither their objects nor
            detections on them are scored.
        other_categories: category ids of the annotations that no class has: detections of them are not scored.
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
        """The bytes of the image file of a sample.

        Raises:
            UserError: it cannot be read.
        """
        return (
            read_bytes(sample.image_path, self.ann_file) if self.store is None else self.store.read(sample.image_path)
        )

    def decode(self, sample: Sample, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
        """The image of a sample, uint8 (H, W, 3) RGB; see `decode_image`.

        Raises:
            UserError: it cannot be used.
        """
        data = None if self.store is None else self.store.read(sample.image_path)
        size = (sample.width, sample.height)
        return decode_image(sample.image_path, ann_file=self.ann_file, size=size, max_pixels=max_pixels, data=data)

    def without_difficult(self) -> DetectionDataset:
        """The same dataset without the objects marked difficult."""
        easy = np.concatenate([np.zeros(0, bool), *(~sample.difficult for sample in self.samples)])
        return self._of([_easy(sample) for sample in self.samples], easy)

    def without_images(self, positions: Collection[int]) -> DetectionDataset:
        """The same dataset without the samples at some positions, whose ids are `skipped_image_ids`."""
        gone = set(positions)
        if not gone:
            return self
        samples = [sample for position, sample in enumerate(self.samples) if position not in gone]
        counts = [len(sample.boxes) for sample in self.samples]
        stay = np.repeat(np.array([position not in gone for position in range(len(counts))], bool), counts)
        ids = frozenset(self.samples[position].image_id for position in gone)
        return replace(self._of(samples, stay), skipped_image_ids=self.skipped_image_ids | ids)

    def boxes_and_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 (n, 4) [x, y, w, h] px and (n,) px^2 of all boxes, as scores go by them: as they were written, and
        width x height where the annotations do not give an area."""
        boxes = self.xywh
        if boxes is None:
            boxes = xyxy_to_xywh(np.concatenate([np.zeros((0, 4)), *(sample.boxes for sample in self.samples)]))
        areas = boxes[:, 2] * boxes[:, 3]
        if self.areas is not None:
            areas = np.where(np.isnan(self.areas), areas, self.areas)
        return boxes, areas

    def _of(self, samples: list[Sample], kept: np.ndarray) -> DetectionDataset:
        """The same dataset with other samples, which have those of all boxes that `kept` (n,) says."""
        areas = None if self.areas is None else self.areas[kept]
        xywh = None if self.xywh is None else self.xywh[kept]
        return replace(self, samples=samples, areas=areas, xywh=xywh)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process gets a few large arrays instead of hundreds of thousands of small ones: 118,287 COCO samples
        # travel in a fraction of a second.
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
    """Cuts flat arrays, ordered by image, into samples that view them.

    Args:
        paths, image_ids: of each of the n images.
        sizes: (width, height) of each image, in pixels.
        counts: (n,) number of boxes of each image, crowds included.
        boxes: float32 (sum of counts, 4) xyxy; labels: int32, iscrowd and difficult: bool of the
            same length.
    """
    ends = np.cumsum(counts)
    starts = (ends - counts).tolist()
    columns = (boxes, labels, iscrowd, difficult)
    return [
        Sample(Path(path), image_id, size[0], size[1], *(column[start:end] for column in columns))
        for path, image_id, size, start, end in zip(paths, image_ids, sizes, starts, ends.tolist(), strict=True)
    ]
