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
    """Transforms an image file to the network's input; it is pickled for the workers."""

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        """Fills `canvas` uint8 (h, w, 3) RGB; `data` is the content of the file, if it was read.

        Raises:
            UserError: the file cannot be used.
        """
        ...


@dataclass(frozen=True)
class PipelineTransform:
    """Decodes the image and applies a pipeline."""

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
        """int32 (N, 2): the whole input; there is no padding."""
        return np.tile(np.array([self.size], np.int32), (len(self.images), 1))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "valid_sizes": self.valid_sizes, "labels": self.labels}


@dataclass(slots=True)
class ClassTargets:
    """The labels int32 (N,) of a batch; for the others see `BatchTargets`."""

    labels: np.ndarray
    bad_images: dict[int, str] = field(default_factory=dict)
    cut: int = 0
    notes: list[ImageNote] = field(default_factory=list)


@dataclass(frozen=True)
class ClassBatches(BatchMaker):
    """Batches of an image folder.

    Attributes:
        dataset: the images.
        transform: of each file to the input.
        seed: the random numbers of an image come from (seed, epoch, its key), so a run is the same for any number of
            workers and can resume in the middle of an epoch.
        max_image_pixels, replacement: see `DetectionBatches`.
    """

    dataset: ImageFolder
    transform: ClassTransform
    seed: int
    max_image_pixels: int = MAX_IMAGE_PIXELS
    replacement: str = "none"

    def make(self, task: BatchTask, images: np.ndarray) -> ClassTargets:
        bad_images: dict[int, str] = {}
        with collected_notes() as notes:
            indices = [
                self._fill(images[position], index, key, task.epoch, bad_images)
                for position, (index, key) in enumerate(zip(task.indices.tolist(), task.keys.tolist(), strict=True))
            ]
        return ClassTargets(self.dataset.labels[indices], bad_images, notes=notes)

    def _fill(self, canvas: np.ndarray, index: int, key: int, epoch: int, bad_images: dict[int, str]) -> int:
        """Fills a canvas with an image or its replacement; returns the position of the image used."""
        replacements = next_samples(index, len(self.dataset)) if self.replacement == "next" else ()
        for candidate in (index, *replacements):
            rng = sample_rng(self.seed, epoch, key)
            try:
                path, store = self.dataset[candidate].image_path, self.dataset.store
                data = None if store is None else store.read(path)
                self.transform(path, canvas, rng, self.max_image_pixels, data)
            except UserError as error:
                if self.replacement == "none":
                    raise
                bad_images[candidate] = str(error)
            else:
                return candidate
        if self.replacement == "next":
            raise UserError(f"{bad_images[index]}; the images after it cannot be used either")
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
