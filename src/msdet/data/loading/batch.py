"""A batch, and how one is made: the same code in the main process and in a worker."""

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
from msdet.data.transforms.augment import Labelled
from msdet.data.transforms.mosaic import Mosaic
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.resize import Geometry
from msdet.errors import UsageError, UserError

NO_LABEL = -1
# Where so many images in a row cannot be used, something else is wrong: a disk that is not there.
MOST_STAND_INS = 16


@dataclass(kw_only=True)
class ImageBatch(ABC):
    """What batches of every task are.

    Attributes:
        images: uint8 (N, h, w, 3) RGB. It may be a view of memory that is filled again: valid until the next batch is
            asked for, so copy what is to be kept.
        labels: int32, the first axis N; its form is the task's.
        image_ids: of the N images, as in the annotation file, or the path of a picture in its folder.
        size: (h, w).
        indices: int64 (N,) positions of the images in the dataset.
        epoch, number: which batch of which epoch this is; the number counts from 0.
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
        """int32 (N, 2): height and width that each image covers of its input, from the top left; the rest is
        padding (right only where no step after the placement moves the pixels)."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """What a training step takes, by name, in its order: `images`, `valid_sizes` and the targets."""


@dataclass(kw_only=True)
class Batch(ImageBatch):
    """Images and padded ground truth.

    Attributes:
        labels: int32 (N, M), rows without a box are -1.
        boxes: float32 (N, M, 4) xyxy in pixels of the network's input, rows without a box are 0. Without crowds.
        geometry: of the N images: how each came into the input, and the way back for boxes (in training without the
            mirroring).
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
    """All that decides a batch.

    Attributes:
        epoch, number: which batch.
        size: (h, w) of its images.
        indices: int64 (N,) samples.
        keys: int64 (N,) of their random generators.
    """

    epoch: int
    number: int
    size: tuple[int, int]
    indices: np.ndarray
    keys: np.ndarray


@dataclass(slots=True)
class Targets:
    """What a batch is besides its pixels: see `Batch`; `cut` counts boxes that `cut_boxes` left out, `bad` says what is
    wrong with the images that the batch goes without, by their positions in the dataset, and `notes` what is odd about
    those that it has."""

    boxes: np.ndarray
    labels: np.ndarray
    geometry: list[Geometry]
    cut: int
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[ImageNote] = field(default_factory=list)


class TargetsOf(Protocol):
    """What every task's targets have: `bad` says what is wrong with the images that a batch goes without, by their
    positions in the dataset, `notes` what is odd about those that it has; `cut` counts boxes that were left out."""

    cut: int
    bad: dict[int, str]
    notes: list[ImageNote]


class BatchMaker(ABC):
    """Makes the batches of one task; it travels to the workers, and its result depends on the task alone.

    Attributes:
        dataset: the samples.
    """

    dataset: ImageDataset

    @abstractmethod
    def make(self, task: BatchTask, images: np.ndarray) -> TargetsOf:
        """Fills `images` uint8 (N, h, w, 3) and returns the targets; see `TargetsOf`.

        Raises:
            UserError: an image of the batch cannot be used, and nothing may take its place.
        """

    @abstractmethod
    def batch(self, task: BatchTask, images: np.ndarray, targets: Any) -> ImageBatch:
        """Puts a batch together, in the main process."""


@dataclass(frozen=True)
class DetectionBatches(BatchMaker):
    """Batches of a detector.

    Attributes:
        dataset: the samples.
        pipeline: what happens to each of them.
        seed: of all randomness; that of a sample comes from (seed, epoch, its number).
        max_boxes: padded number of boxes M of an image; doubled as often as an image of the batch needs it.
        cut_boxes: instead keep at most max_boxes of an image, drawn at random, and count the rest.
        max_image_pixels: larger images are an error.
        stand_in: what takes the place of an image that cannot be used: `none` (an error), `next` (the sample behind
            it: training), or `grey` (a grey image of the annotated size, without boxes: evaluation).
        mosaic: makes of the samples those that the pipeline is given.
    """

    dataset: DetectionDataset
    pipeline: Pipeline
    seed: int
    max_boxes: int
    cut_boxes: bool = False
    max_image_pixels: int = MAX_IMAGE_PIXELS
    stand_in: str = "none"
    mosaic: Mosaic | None = None

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise UsageError(f"max_boxes is {self.max_boxes}: it must be at least 1")

    def make(self, task: BatchTask, images: np.ndarray) -> Targets:
        with collected_notes() as notes:
            targets = self._make(task, images)
        targets.notes = notes
        return targets

    def _make(self, task: BatchTask, images: np.ndarray) -> Targets:
        boxes, labels, geometry, cut = [], [], [], 0
        reader = SampleReader(self.dataset, self.max_image_pixels, self.stand_in)
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
        return Targets(*pad_targets(boxes, labels, self.max_boxes), geometry, cut, reader.bad)

    def batch(self, task: BatchTask, images: np.ndarray, targets: Targets) -> Batch:
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
    """Reads samples, or what stands in for those whose image cannot be used; see `DetectionBatches`.

    Attributes:
        bad: what is wrong with images that have a stand-in, by their positions.
    """

    def __init__(self, dataset: DetectionDataset, max_image_pixels: int, stand_in: str) -> None:
        self.dataset = dataset
        self.max_image_pixels = max_image_pixels
        self.stand_in = stand_in
        self.bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, rng: np.random.Generator) -> Labelled:
        """Image uint8 (H, W, 3), boxes float32 (n, 4) and labels int32 (n,) of a sample, without crowds.

        Raises:
            UserError: the image cannot be used, and nothing may take its place.
        """
        del rng
        try:
            return self._read(index)
        except UserError as error:
            if self.stand_in == "none":
                raise
            self.bad[index] = str(error)
            if self.stand_in == "grey":
                return self._grey(index)
            first = error
        for other in next_samples(index, len(self.dataset)):
            try:
                return self._read(other)
            except UserError as error:
                self.bad[other] = str(error)
        raise UserError(f"{first}; and so are the {MOST_STAND_INS} images behind it") from first

    def _read(self, index: int) -> Labelled:
        sample = self.dataset.samples[index]
        image = self.dataset.decode(sample, self.max_image_pixels)
        boxes, labels = sample.targets()
        # Steps may change what they get; the sample's own arrays serve the next epoch.
        return image, boxes.copy(), labels.copy()

    def _grey(self, index: int) -> Labelled:
        sample = self.dataset.samples[index]
        image = np.full((sample.height or 64, sample.width or 64, 3), 128, np.uint8)
        return image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


def next_samples(index: int, count: int) -> Iterator[int]:
    """The samples that are tried in the place of one that cannot be used, the same in every run."""
    return (other % count for other in range(index + 1, index + 1 + min(MOST_STAND_INS, count - 1)))


def pad_targets(boxes: list[np.ndarray], labels: list[np.ndarray], max_boxes: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, M, 4) padded with 0 and labels (N, M) padded with -1, of N lists.

    M is `max_boxes`, doubled until the longest list fits: few different shapes, and no ground truth lost.
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
