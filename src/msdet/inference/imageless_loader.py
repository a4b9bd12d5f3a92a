"""Batches of images that another program has seen: their numbers, and how they came into its input, without pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from msdet.errors import UserError

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset
    from msdet.data.transforms.augment import Resize
    from msdet.data.transforms.resize import Geometry


@dataclass
class ImagelessBatch:
    """One image.

    Attributes:
        indices: int64 (1,), its position in the dataset.
        image_ids: its id.
        geometry: of a detector's image.
    """

    indices: np.ndarray
    image_ids: list[int | str]
    geometry: list[Geometry] = field(default_factory=list)


class ImagelessLoader:
    """Takes the place of the loader of an evaluation.

    Args:
        image_ids: of the dataset, in its order.
        geometry_of: of the image at a position; None for a classifier, which needs none.

    Attributes:
        bad_images: empty; images that are not read cannot be corrupt.
    """

    def __init__(self, image_ids: Sequence[int | str], geometry_of: Callable[[int], Geometry] | None = None) -> None:
        self.image_ids = image_ids
        self.geometry_of = geometry_of
        self.bad_images: dict[int, str] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Batches, which are images."""
        return len(self.image_ids)

    def epoch(self, _: int) -> Iterator[ImagelessBatch]:
        """Every image once, in order."""
        for index, image_id in enumerate(self.image_ids):
            geometry = [self.geometry_of(index)] if self.geometry_of is not None else []
            yield ImagelessBatch(np.array([index]), [image_id], geometry)

    def close(self) -> None:
        """There is nothing to close."""


def imageless_detection_loader(dataset: DetectionDataset, place: Resize, size: tuple[int, int]) -> ImagelessLoader:
    """A detector's images by their sizes, as annotations or files told them.

    Args:
        dataset: the images.
        place: how an image comes into the input.
        size: (h, w) of the input.
    """

    def geometry_of(index: int) -> Geometry:
        sample = dataset.samples[index]
        if not (sample.width and sample.height):
            raise UserError(
                f"{dataset.ann_file} does not tell the size of {sample.image_path.name}, and {sample.image_path} "
                "cannot be read: without its size no box comes back to the image"
            )
        return place.plan(sample.width, sample.height, size)

    return ImagelessLoader([sample.image_id for sample in dataset.samples], geometry_of)
