"""Builds the loader of each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msdet.data.dataset import DetectionDataset
from msdet.data.formats.imagefolder import ImageFolder
from msdet.data.images.decode import MAX_IMAGE_PIXELS
from msdet.data.loading.batch import DetectionBatches
from msdet.data.loading.class_batch import ClassBatches, ClassTransform, PipelineTransform
from msdet.data.loading.loader import BatchLoader
from msdet.data.transforms.mosaic import Mosaic
from msdet.data.transforms.pipeline import Pipeline


def detection_loader(
    dataset: DetectionDataset,
    pipeline: Pipeline,
    batch_size: int,
    sizes: Sequence[tuple[int, int]],
    *,
    training: bool,
    seed: int = 0,
    max_boxes: int = 50,
    cut_boxes: bool = False,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    on_bad_image: str = "error",
    mosaic: Mosaic | None = None,
    **options: Any,
) -> BatchLoader:
    """Batches of a detector.

    Args:
        dataset: the samples.
        pipeline: the transforms of each sample.
        batch_size, sizes, training, options: see `BatchLoader`.
        seed: of order, sizes and augmentation; not negative.
        max_boxes, cut_boxes, max_image_pixels, mosaic: see `DetectionBatches`.
        on_bad_image: `error`, or `skip`: an image that cannot be used is replaced by the next sample in training, and
            by a grey image that is not scored in evaluation; such images are logged at the end of the epoch.
    """
    replacement = _replacement(on_bad_image, training)
    maker = DetectionBatches(dataset, pipeline, seed, max_boxes, cut_boxes, max_image_pixels, replacement, mosaic)
    return BatchLoader(maker, batch_size, sizes, training=training, seed=seed, **options)


def class_loader(
    dataset: ImageFolder,
    transform: ClassTransform | Pipeline,
    batch_size: int,
    sizes: Sequence[tuple[int, int]],
    *,
    training: bool,
    seed: int = 0,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    on_bad_image: str = "error",
    **options: Any,
) -> BatchLoader:
    """Batches of a classifier.

    Args:
        dataset: the images.
        transform: a `ClassTransform`, or a `Pipeline` that is applied to the decoded image.
        batch_size, sizes, training, seed, max_image_pixels, on_bad_image, options: see `detection_loader`.
    """
    placed = PipelineTransform(transform) if isinstance(transform, Pipeline) else transform
    maker = ClassBatches(dataset, placed, seed, max_image_pixels, _replacement(on_bad_image, training))
    return BatchLoader(maker, batch_size, sizes, training=training, seed=seed, **options)


def _replacement(on_bad_image: str, training: bool) -> str:
    if on_bad_image != "skip":
        return "none"
    return "next" if training else "grey"
