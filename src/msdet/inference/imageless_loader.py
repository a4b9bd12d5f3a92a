"""A loader that yields image ids and resize geometry without reading images, to score results of other programs."""

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
    """A batch of one image.

    Attributes:
        indices: int64 (1,), position in the dataset.
        image_ids: its id.
        geometry: resize geometry of the image; empty for a classifier.
    """

    indices: np.ndarray
    image_ids: list[int | str]
    geometry: list[Geometry] = field(default_factory=list)


class ImagelessLoader:
    """Replaces the data loader of an evaluation.

    Args:
        image_ids: image ids in the order of the dataset.
        geometry_of: position -> resize geometry; None for a classifier, which does not need it.

    Attributes:
        bad_images: empty; images that are not read cannot be corrupt.
    """

    def __init__(self, image_ids: Sequence[int | str], geometry_of: Callable[[int], Geometry] | None = None) -> None:
        self.image_ids = image_ids
        self.geometry_of = geometry_of
        self.bad_images: dict[int, str] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches, which is the number of images."""
        return len(self.image_ids)

    def epoch(self, _: int) -> Iterator[ImagelessBatch]:
        """Yields every image once, in order."""
        for index, image_id in enumerate(self.image_ids):
            geometry = [self.geometry_of(index)] if self.geometry_of is not None else []
            yield ImagelessBatch(np.array([index]), [image_id], geometry)

    def close(self) -> None:
        """Does nothing."""


def imageless_detection_loader(dataset: DetectionDataset, place: Resize, size: tuple[int, int]) -> ImagelessLoader:
    """A loader for a detection dataset, whose samples have image sizes.

    Args:
        dataset: the images.
        place: the resize transform.
        size: (h, w) of the network input.
    """

    def geometry_of(index: int) -> Geometry:
        sample = dataset.samples[index]
        if not (sample.width and sample.height):
            raise UserError(
                f"{dataset.ann_file} does not have the size of {sample.image_path.name}, and {sample.image_path} "
                "cannot be read; the size is needed to transform boxes back to the image"
            )
        return place.plan(sample.width, sample.height, size)

    return ImagelessLoader([sample.image_id for sample in dataset.samples], geometry_of)
