"""From a configuration to datasets and batches."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

from src.config import resolve_classes
from src.data.coco import read_coco
from src.data.layouts import find_split
from src.data.loader import BatchLoader
from src.errors import UsageError

if TYPE_CHECKING:
    from src.config import Config
    from src.data.pipeline import Pipeline
    from src.data.sample import DetectionDataset
    from src.engine.runtime import Runtime

ConfigT = TypeVar("ConfigT", bound="Config")


def open_dataset(cfg: ConfigT, split: str) -> tuple[DetectionDataset, ConfigT]:
    """Reads and checks one split.

    Args:
        cfg: names the folder and, if need be, the files in it.
        split: "train", "val", or "test" for images without annotations.

    Returns:
        the dataset, and the configuration with the classes that it left open.

    Raises:
        UserError: something is missing or wrong; the message names the file and the place.
    """
    ann_file, image_dir = getattr(cfg, f"{split}_ann_file"), getattr(cfg, f"{split}_image_dir")
    if not cfg.data_dir and not (ann_file and image_dir):
        raise UsageError("data_dir is empty: give the folder of the data set with --data_dir")
    paths = find_split(cfg.data_dir, split, layout=cfg.layout, ann_file=ann_file, image_dir=image_dir)
    dataset = read_coco(
        paths.ann_file,
        paths.image_dir,
        cfg.class_names,
        label_map=cfg.label_map,
        on_bad_box=cfg.on_bad_box,
        require_annotations=split != "test",
    )
    return dataset, resolve_classes(cfg, dataset.class_names, dataset.ann_file)


def training_loader(cfg: Config, dataset: DetectionDataset, pipeline: Pipeline, runtime: Runtime) -> BatchLoader:
    """Shuffled, augmented batches of this rank's share."""
    return BatchLoader(
        dataset,
        pipeline,
        batch_size=cfg.per_batch_size,
        sizes=cfg.training_sizes,
        resize_rate=cfg.resize_rate,
        max_boxes=cfg.max_boxes,
        cut_boxes=cfg.cut_boxes,
        max_image_pixels=cfg.max_image_pixels,
        seed=cfg.seed,
        training=True,
        num_workers=cfg.num_parallel_workers,
        rank=runtime.rank,
        group_size=runtime.group_size,
    )


def evaluation_loader(cfg: Config, dataset: DetectionDataset, pipeline: Pipeline, runtime: Runtime) -> BatchLoader:
    """Every image once, in order; several ranks take turns."""
    return BatchLoader(
        dataset,
        pipeline,
        batch_size=cfg.eval_batch_size,
        sizes=[cfg.testing_size],
        max_boxes=cfg.max_boxes,
        max_image_pixels=cfg.max_image_pixels,
        seed=cfg.seed,
        training=False,
        num_workers=cfg.num_parallel_workers,
        rank=runtime.rank,
        group_size=runtime.group_size,
    )


def fingerprint(dataset: DetectionDataset) -> str:
    """SHA-256 over classes, image ids and ground truth: two datasets of one fingerprint train alike."""
    digest = hashlib.sha256(repr((dataset.class_names, dataset.category_ids)).encode())
    for sample in dataset.samples:
        digest.update(repr((sample.image_path.name, sample.image_id)).encode())
        for array in (sample.boxes, sample.labels, sample.iscrowd):
            digest.update(array.tobytes())
    return digest.hexdigest()
