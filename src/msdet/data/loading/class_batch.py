"""Batches of classifiers: images and their labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from msdet.data.formats.imagefolder import ImageFolder
from msdet.data.images.decode import MAX_IMAGE_PIXELS, decode_image
from msdet.data.images.notes import ImageNote, collected_notes
from msdet.data.loading.batch import BatchMaker, BatchTask, ImageBatch, next_samples
from msdet.data.loading.order import sample_rng
from msdet.data.transforms.pipeline import Pipeline
from msdet.errors import UserError


class ClassTransform(Protocol):
    """From a file to the network's input; it travels to the workers."""

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        """Fills `canvas` uint8 (h, w, 3) RGB; `data` are the bytes of the file, if it has been read.

        Raises:
            UserError: the file cannot be used.
        """
        ...


@dataclass(frozen=True)
class Placed:
    """A transform that decodes and then does what a pipeline says."""

    pipeline: Pipeline

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        image = decode_image(path, max_pixels=max_pixels, data=data)
        self.pipeline((image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32)), canvas, rng)


class ClassBatch(ImageBatch):
    """Images and their labels, int32 (N,)."""

    @property
    def valid_sizes(self) -> np.ndarray:
        """int32 (N, 2): all of the input; nothing is padded."""
        return np.tile(np.array([self.size], np.int32), (len(self.images), 1))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "valid_sizes": self.valid_sizes, "labels": self.labels}


@dataclass(slots=True)
class ClassTargets:
    """The labels of a batch, and what `TargetsOf` says."""

    labels: np.ndarray
    bad: dict[int, str] = field(default_factory=dict)
    cut: int = 0
    notes: list[ImageNote] = field(default_factory=list)


@dataclass(frozen=True)
class ClassBatches(BatchMaker):
    """Batches of an image folder.

    Attributes:
        dataset: the images.
        transform: from each file to the input; all its randomness comes from (seed, epoch, the image's number), so that
            a run is the same for any number of workers and can go on in the middle of an epoch.
        seed: see there.
        max_image_pixels, stand_in: see `DetectionBatches`.
    """

    dataset: ImageFolder
    transform: ClassTransform
    seed: int
    max_image_pixels: int = MAX_IMAGE_PIXELS
    stand_in: str = "none"

    def make(self, task: BatchTask, images: np.ndarray) -> ClassTargets:
        bad: dict[int, str] = {}
        with collected_notes() as notes:
            indices = [
                self._fill(images[position], index, key, task.epoch, bad)
                for position, (index, key) in enumerate(zip(task.indices.tolist(), task.keys.tolist(), strict=True))
            ]
        return ClassTargets(self.dataset.labels[indices], bad, notes=notes)

    def _fill(self, canvas: np.ndarray, index: int, key: int, epoch: int, bad: dict[int, str]) -> int:
        """Fills a canvas with a image or what stands in for it; returns the position of the image it shows."""
        behind = next_samples(index, len(self.dataset)) if self.stand_in == "next" else ()
        for candidate in (index, *behind):
            rng = sample_rng(self.seed, epoch, key)
            try:
                path, store = self.dataset[candidate].image_path, self.dataset.store
                data = None if store is None else store.read(path)
                self.transform(path, canvas, rng, self.max_image_pixels, data)
            except UserError as error:
                if self.stand_in == "none":
                    raise
                bad[candidate] = str(error)
            else:
                return candidate
        if self.stand_in == "next":
            raise UserError(f"{bad[index]}; and so are the images behind it")
        canvas[...] = 128
        return index

    def batch(self, task: BatchTask, images: np.ndarray, targets: ClassTargets) -> ClassBatch:
        return ClassBatch(
            images=images,
            labels=targets.labels,
            image_ids=[self.dataset.files[index] for index in task.indices.tolist()],
            size=task.size,
            indices=task.indices,
            epoch=task.epoch,
            number=task.number,
        )
