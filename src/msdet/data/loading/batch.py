"""Batches and how they are made, in the main process as in a worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from msdet.data.dataset import DetectionDataset, ImageDataset
from msdet.data.images.decode import MAX_IMAGE_PIXELS
from msdet.data.images.notes import ImageNote, collected_notes
from msdet.data.loading.order import sample_rng
from msdet.data.transforms.augment import LabelledImage
from msdet.data.transforms.mosaic import Mosaic
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.resize import Geometry
from msdet.errors import UsageError, UserError

NO_LABEL = -1
# If this many consecutive images cannot be read, the cause is not the images, for example a disk that is not mounted.
MAX_REPLACEMENTS = 16


@dataclass(kw_only=True)
class ImageBatch(ABC):
    """Base class of the batches of all tasks.

    Attributes:
        images: uint8 (N, h, w, 3) RGB. It may be a view of a reused buffer: valid until the next batch is requested.
        labels: int32; the first axis is N, the others depend on the task.
        image_ids: ids of the N images, as in the annotation file, or paths relative to the image folder.
        size: (h, w) of the images.
        indices: int64 (N,) positions of the images in the dataset.
        epoch, number: the epoch, and the number of the batch in it; both count from 0.
    """

    images: np.ndarray
    labels: np.ndarray
    image_ids: list[str | int]
    size: tuple[int, int]
    indices: np.ndarray
    epoch: int
    number: int

    @property
    @abstractmethod
    def valid_sizes(self) -> np.ndarray:
        """int32 (N, 2): height and width of the part of the input that each image covers, from the top left; the rest
        is padding. Valid only if no step after the placement moves pixels."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """The inputs of a training step by name, in its order: `images`, `valid_sizes` and the targets."""


@dataclass(kw_only=True)
class Batch(ImageBatch):
    """Images and padded ground truth.

    Attributes:
        labels: int32 (N, M), padded with -1.
        boxes: float32 (N, M, 4) xyxy in input pixels, padded with 0. Without crowds.
        geometry: transform of each of the N images to the input and back (without the flip of training).
    """

    boxes: np.ndarray
    geometry: list[Geometry]

    @property
    def valid_sizes(self) -> np.ndarray:
        return np.array([geometry.valid_size for geometry in self.geometry], np.int32).reshape(-1, 2)

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "images": self.images,
            "valid_sizes": self.valid_sizes,
            "boxes": self.boxes,
            "labels": self.labels,
            "size": np.array(self.size, np.float32),
        }


@dataclass(frozen=True, slots=True)
class BatchTask:
    """Everything that determines a batch.

    Attributes:
        epoch, number: of the batch.
        size: (h, w) of its images.
        indices: int64 (N,) positions of the samples in the dataset.
        keys: int64 (N,) keys of their random generators.
    """

    epoch: int
    number: int
    size: tuple[int, int]
    indices: np.ndarray
    keys: np.ndarray


@dataclass(slots=True)
class DetectionTargets:
    """A detection batch without its pixels: see `Batch` and `BatchTargets`."""

    boxes: np.ndarray
    labels: np.ndarray
    geometry: list[Geometry]
    cut: int
    bad_images: dict[int, str] = field(default_factory=dict)
    notes: list[ImageNote] = field(default_factory=list)


class BatchTargets(Protocol):
    """What a worker returns for a batch of any task, besides the pixels.

    Attributes:
        cut: number of boxes dropped because of `cut_boxes`.
        bad_images: error messages of images that could not be used, by their positions in the dataset.
        notes: remarks on images that could be read.
    """

    cut: int
    bad_images: dict[int, str]
    notes: list[ImageNote]


class BatchMaker(ABC):
    """Makes the batches of one task. It is pickled for the workers; the result depends only on the `BatchTask`.

    Attributes:
        dataset: the samples.
    """

    dataset: ImageDataset

    @abstractmethod
    def make(self, task: BatchTask, images: np.ndarray) -> BatchTargets:
        """Fills `images` uint8 (N, h, w, 3) and returns the targets; see `BatchTargets`.

        Raises:
            UserError: an image cannot be used and may not be replaced.
        """

    @abstractmethod
    def batch(self, task: BatchTask, images: np.ndarray, targets: Any) -> ImageBatch:
        """Builds a batch from pixels and targets, in the main process."""


@dataclass(frozen=True)
class DetectionBatches(BatchMaker):
    """Batches of a detector.

    Attributes:
        dataset: the samples.
        pipeline: the transforms of each sample.
        seed: the random numbers of a sample come from (seed, epoch, its key).
        max_boxes: padded number of boxes M per image; doubled until all boxes of the batch fit.
        cut_boxes: instead keep a random subset of at most max_boxes boxes per image, and count the rest.
        max_image_pixels: larger images are an error.
        replacement: of an image that cannot be used: `none` (an error), `next` (the next sample, in training), or
            `grey` (a grey image of the annotated size without boxes, in evaluation).
        mosaic: wraps the sample source before the pipeline.
    """

    dataset: DetectionDataset
    pipeline: Pipeline
    seed: int
    max_boxes: int
    cut_boxes: bool = False
    max_image_pixels: int = MAX_IMAGE_PIXELS
    replacement: str = "none"
    mosaic: Mosaic | None = None

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise UsageError(f"max_boxes is {self.max_boxes}: it must be at least 1")

    def make(self, task: BatchTask, images: np.ndarray) -> DetectionTargets:
        with collected_notes() as notes:
            targets = self._make(task, images)
        targets.notes = notes
        return targets

    def _make(self, task: BatchTask, images: np.ndarray) -> DetectionTargets:
        boxes, labels, geometry, cut = [], [], [], 0
        reader = SampleReader(self.dataset, self.max_image_pixels, self.replacement)
        samples = reader if self.mosaic is None else self.mosaic(reader)
        for position, (index, key) in enumerate(zip(task.indices.tolist(), task.keys.tolist(), strict=True)):
            rng = sample_rng(self.seed, task.epoch, key)
            found, classes, where = self.pipeline(samples.load(index, rng), images[position], rng)
            if self.cut_boxes and len(found) > self.max_boxes:
                cut += len(found) - self.max_boxes
                kept = np.sort(rng.permutation(len(found))[: self.max_boxes])
                found, classes = found[kept], classes[kept]
            boxes.append(found)
            labels.append(classes)
            geometry.append(where)
        return DetectionTargets(*pad_targets(boxes, labels, self.max_boxes), geometry, cut, reader.bad_images)

    def batch(self, task: BatchTask, images: np.ndarray, targets: DetectionTargets) -> Batch:
        return Batch(
            images=images,
            boxes=targets.boxes,
            labels=targets.labels,
            image_ids=[self.dataset.samples[index].image_id for index in task.indices.tolist()],
            geometry=targets.geometry,
            size=task.size,
            indices=task.indices,
            epoch=task.epoch,
            number=task.number,
        )


class SampleReader:
    """Reads samples, and replaces those whose image cannot be used; see `DetectionBatches`.

    Attributes:
        bad_images: error messages of the replaced images, by their positions.
    """

    def __init__(self, dataset: DetectionDataset, max_image_pixels: int, replacement: str) -> None:
        self.dataset = dataset
        self.max_image_pixels = max_image_pixels
        self.replacement = replacement
        self.bad_images: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, rng: np.random.Generator) -> LabelledImage:
        """Image uint8 (H, W, 3), boxes float32 (n, 4) and labels int32 (n,) of a sample, without crowds.

        Raises:
            UserError: the image cannot be used and may not be replaced.
        """
        del rng
        try:
            return self._read(index)
        except UserError as error:
            if self.replacement == "none":
                raise
            self.bad_images[index] = str(error)
            if self.replacement == "grey":
                return self._grey(index)
            first = error
        for other in next_samples(index, len(self.dataset)):
            try:
                return self._read(other)
            except UserError as error:
                self.bad_images[other] = str(error)
        raise UserError(f"{first}; the {MAX_REPLACEMENTS} images after it cannot be used either") from first

    def _read(self, index: int) -> LabelledImage:
        sample = self.dataset.samples[index]
        image = self.dataset.decode(sample, self.max_image_pixels)
        boxes, labels = sample.targets()
        # Transforms may modify the arrays; the sample is used again in the next epoch.
        return image, boxes.copy(), labels.copy()

    def _grey(self, index: int) -> LabelledImage:
        sample = self.dataset.samples[index]
        image = np.full((sample.height or 64, sample.width or 64, 3), 128, np.uint8)
        return image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


def next_samples(index: int, count: int) -> Iterator[int]:
    """The samples that are tried as replacements of an unusable one, the same in every run."""
    return (other % count for other in range(index + 1, index + 1 + min(MAX_REPLACEMENTS, count - 1)))


def pad_targets(boxes: list[np.ndarray], labels: list[np.ndarray], max_boxes: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, M, 4) padded with 0 and labels (N, M) padded with -1, of N lists.

    M is `max_boxes`, doubled until the longest list fits: few distinct shapes, no ground truth lost.
    """
    rows = max_boxes
    while rows < max(map(len, boxes), default=0):
        rows *= 2
    padded_boxes = np.zeros((len(boxes), rows, 4), np.float32)
    padded_labels = np.full((len(boxes), rows), NO_LABEL, np.int32)
    for position, (found, classes) in enumerate(zip(boxes, labels, strict=True)):
        padded_boxes[position, : len(found)] = found
        padded_labels[position, : len(found)] = classes
    return padded_boxes, padded_labels
