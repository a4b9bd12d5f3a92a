"""Opens the datasets and batch loaders of a configuration."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from msdet.config import resolve_classes
from msdet.data.build_dataset import build_dataset
from msdet.data.categories import UNUSED_CLASS
from msdet.data.formats.format import SourceOptions
from msdet.data.formats.imagefolder import ImageFolder, check_same_classes, class_folders, read_image_folder
from msdet.data.formats.mindrecord.format import CREATE_HINT
from msdet.data.formats.mindrecord.image_folder import read_image_folder_records, to_detection_dataset
from msdet.data.formats.mindrecord.read import fingerprint as annotations_fingerprint
from msdet.data.formats.mindrecord.read import has_split, load_mindrecord, read_info, refuse_foreign_mindrecord
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.data.formats.table import format_names
from msdet.data.loading.loaders import class_loader, detection_loader
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from msdet.data.validation.fast_check import fast_findings
from msdet.errors import UsageError, UserError
from msdet.models.recipe import task_of
from msdet.runtime.device import uses_dynamic_shapes
from msdet.runtime.modelarts import locked
from msdet.runtime.stop import StopRequest

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset
    from msdet.data.loading.loader import BatchLoader
    from msdet.data.transforms.mosaic import Mosaic
    from msdet.data.transforms.pipeline import Pipeline
    from msdet.runtime.start import Runtime

_REMEDY = "remove it so that it is created again, or leave data_dir empty to use it unchanged"

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound="Config")


def open_dataset(cfg: ConfigT, split: str, need_images: bool = True) -> tuple[DetectionDataset | ImageFolder, ConfigT]:
    """Reads and checks one split.

    Args:
        cfg: configuration with the folder and, if needed, the files in it.
        split: "train", "val", or "test" for images without annotations.
        need_images: False if only the annotations are needed; the images of a detection dataset may then be missing.

    Returns:
        the dataset, and the configuration with its classes completed.

    Raises:
        UserError: something is missing or invalid; the message names the file and the place.
    """
    if task_of(cfg) == "classify":
        return open_image_folder(cfg, split)
    return open_detection_dataset(cfg, split, need_images)


def open_detection_dataset(cfg: ConfigT, split: str, need_images: bool = True) -> tuple[DetectionDataset, ConfigT]:
    """`open_dataset` for a detector."""
    if cfg.mindrecord_dir and cfg.dataset.lower() != "mindrecord":
        dataset = _read_via_mindrecord(cfg, split, need_images)
    else:
        dataset = read_files(cfg, split, need_images)
    if split == "train":
        if not cfg.learn_difficult:
            dataset = dataset.without_difficult()
        if not cfg.keep_empty_images:
            dataset = _without_empty(cfg, dataset)
        for finding in fast_findings(cfg, dataset, split):
            log.log(logging.WARNING if finding.severity == "warning" else logging.INFO, finding.text)
    names = [name for name in dataset.class_names if name != UNUSED_CLASS]
    return dataset, resolve_classes(cfg, names, dataset.ann_file)


def _without_empty(cfg: Config, dataset: DetectionDataset) -> DetectionDataset:
    """Removes images that have neither objects nor crowd regions.

    Raises:
        UserError: no image is left.
    """
    empty = [i for i, sample in enumerate(dataset.samples) if not len(sample.boxes)]
    if len(empty) == len(dataset.samples):
        raise UserError(f"{dataset.ann_file}: no image has an annotation, and keep_empty_images is False")
    if empty:
        where = cfg.where("keep_empty_images")
        log.info("%d of %d images have no annotation and are skipped (%s)", len(empty), len(dataset.samples), where)
    return dataset.without_images(empty)


def read_files(cfg: Config, split: str, need_images: bool = True) -> DetectionDataset:
    """Reads and checks the annotations of a split, ignoring `mindrecord_dir`; see `open_dataset`."""
    content = load_annotations(source_options(cfg, split, need_images), split)
    return build_dataset(content, _read_options(cfg, need_images))


def _read_options(cfg: Config, check_images: bool = True) -> ReadOptions:
    return ReadOptions(
        cfg.class_names,
        label_map=cfg.label_map,
        num_classes=cfg.num_classes,
        on_bad_box=cfg.on_bad_box,
        on_bad_image=cfg.on_bad_image,
        check_images=check_images,
    )


def _read_via_mindrecord(cfg: Config, split: str, need_images: bool) -> DetectionDataset:
    """Reads a split from the MindRecord files in `mindrecord_dir`, as in the old zoo: existing files are used and never
    recreated; training creates missing ones. Several processes that share the folder create them once.

    Raises:
        UserError: the files were made from other annotations, or by another program.
    """
    folder = Path(cfg.mindrecord_dir)
    refuse_foreign_mindrecord(folder)
    if split == "train" and not has_split(folder, split):
        with locked(folder):
            if not has_split(folder, split):
                log.info("%s contains no MindRecord files: creating them", folder)
                write_mindrecord(read_files(cfg, split), folder, split)
    if not has_split(folder, split):
        return read_files(cfg, split, need_images)
    content, store = load_mindrecord(folder / split, split)
    content.store = store
    records = build_dataset(content, _read_options(cfg))
    _check_up_to_date(cfg, split, records)
    log.info("images of %s are read from MindRecord files in %s", split, folder / split)
    return records


def _check_up_to_date(cfg: Config, split: str, records: DetectionDataset) -> None:
    """Compares MindRecord files with the annotations, if those are available.

    Raises:
        UserError: images, boxes, classes or areas differ.
    """
    inner = Path(cfg.mindrecord_dir) / split
    info = read_info(inner, split)
    if not getattr(cfg, f"{split}_ann_file") and not (cfg.data_dir and Path(cfg.data_dir).is_dir()):
        log.info("data_dir is empty or absent: %s is used without comparing it with annotations", inner)
        return
    content = load_annotations(source_options(cfg, split), split)
    # Formats without image sizes, to which boxes are clipped, need the image files.
    needs_files = any(not image.width or not image.height for image in content.images)
    files = build_dataset(content, _read_options(cfg, needs_files))
    if annotations_fingerprint(files) != info.get("fingerprint") or not _areas_agree(files, records):
        raise UserError(
            f"{inner} was made from other annotations or classes than those of {info.get('made_from')} now: {_REMEDY}"
        )


def _areas_agree(files: DetectionDataset, records: DetectionDataset) -> bool:
    """Whether the annotated areas agree, which are not part of the fingerprint; box widths have been rounded."""
    theirs, ours = files.boxes_and_areas()[1], records.boxes_and_areas()[1]
    return len(theirs) == len(ours) and np.allclose(theirs, ours, rtol=1e-4, atol=1e-2)


def source_options(cfg: Config, split: str, need_images: bool = True) -> SourceOptions:
    """Location and format of the annotations of a split according to the configuration; see `open_dataset`.

    Raises:
        UsageError: no location is given, or the format is unknown.
    """
    ann_file, image_dir = getattr(cfg, f"{split}_ann_file"), getattr(cfg, f"{split}_image_dir")
    if not cfg.data_dir and not ann_file and not (cfg.dataset.lower() == "mindrecord" and cfg.mindrecord_dir):
        raise UsageError("data_dir is empty: give the folder of the dataset with --data_dir")
    names = ["auto", *format_names()]
    if cfg.dataset.lower() not in names:
        raise UsageError(f"{cfg.where('dataset')} is {cfg.dataset!r}; choose one of {', '.join(names)}")
    return SourceOptions(
        cfg.data_dir or (cfg.mindrecord_dir if cfg.dataset.lower() == "mindrecord" else ""),
        ann_file,
        image_dir,
        cfg.dataset.lower(),
        cfg.layout,
        cfg.class_names,
        cfg.num_classes if cfg.label_map == "dense" else 0,
        need_images,
        cfg.txt_order,
        cfg.txt_first_class,
        cfg.voc_first_pixel,
    )


def open_image_folder(cfg: ConfigT, split: str) -> tuple[ImageFolder, ConfigT]:
    """`open_dataset` for a classifier: one folder per class in `train` or `val` of data_dir, or in train_image_dir and
    val_image_dir; or MindRecord files made from it."""
    dataset = _folder_or_records(cfg, split)
    root = dataset.root
    found = len(dataset.class_names)
    if cfg.num_classes not in (0, found):
        raise UserError(
            f"{cfg.where('num_classes')} is {cfg.num_classes}, but {root} holds {found} classes; set num_classes to 0 "
            "to follow the folder"
        )
    other = _split_folder(cfg, "val") if dataset.store is None else Path()
    if split == "train" and dataset.store is None and other.is_dir():
        # Fails now instead of at the first evaluation, hours later.
        check_same_classes(class_folders(other), dataset.class_names, str(other), f"those of {root}")
    return dataset, replace(cfg, class_names=tuple(dataset.class_names), num_classes=found)


def _folder_or_records(cfg: Config, split: str) -> ImageFolder:
    """Reads images from MindRecord files if there are any; training creates missing ones if mindrecord_dir is set."""
    folder = Path(cfg.mindrecord_dir or cfg.data_dir)
    if cfg.mindrecord_dir or cfg.dataset.lower() == "mindrecord":
        refuse_foreign_mindrecord(folder)
    wanted = cfg.mindrecord_dir and cfg.dataset.lower() != "mindrecord" and split == "train"
    if wanted and not has_split(folder, split):
        with locked(folder):
            if not has_split(folder, split):
                log.info("%s contains no MindRecord files: creating them", folder)
                files = read_image_folder(_split_folder(cfg, split), cfg.class_names)
                write_mindrecord(to_detection_dataset(files), folder, split)
    if not (cfg.mindrecord_dir or cfg.data_dir) or not has_split(folder, split):
        if cfg.dataset.lower() == "mindrecord":
            raise UserError(f"{folder} contains no MindRecord files of the split {split!r}: {CREATE_HINT}")
        return read_image_folder(_split_folder(cfg, split), cfg.class_names)
    records = read_image_folder_records(folder / split, split, cfg.class_names)
    source = Path(cfg.data_dir) / (getattr(cfg, f"{split}_image_dir") or split)
    comparable = cfg.mindrecord_dir and cfg.data_dir and source.is_dir() and not has_split(Path(cfg.data_dir), split)
    if comparable and read_image_folder(source, cfg.class_names).fingerprint() != records.fingerprint():
        raise UserError(f"{folder / split} was made from other images or classes than those of {source} now: {_REMEDY}")
    log.info("images of %s are read from MindRecord files in %s", split, folder / split)
    return records


def _split_folder(cfg: Config, split: str) -> Path:
    folder = getattr(cfg, f"{split}_image_dir") or split
    if not cfg.data_dir and not Path(folder).is_absolute():
        raise UsageError("data_dir is empty: give the folder that contains train/ and val/ with --data_dir")
    return Path(cfg.data_dir) / folder


def training_loader(
    cfg: Config,
    dataset: Any,
    pipeline: Any,
    runtime: Runtime,
    stop: StopRequest | None = None,
    mosaic: Mosaic | None = None,
) -> BatchLoader:
    """Shuffled, augmented batches of this rank's share of the dataset.

    A single process stops at a request without waiting for a batch; several ranks have to do the next step together.
    """
    options = _options(cfg, runtime, stop if runtime.group_size == 1 else None)
    place = (cfg.per_batch_size, cfg.training_sizes)
    if task_of(cfg) == "classify":
        return class_loader(dataset, pipeline, *place, training=True, resize_rate=cfg.resize_rate, **options)
    is_fixed = not cfg.cut_boxes and not uses_dynamic_shapes(cfg)
    return detection_loader(
        dataset,
        pipeline,
        *place,
        training=True,
        resize_rate=cfg.resize_rate,
        max_boxes=_enough_boxes(cfg.max_boxes, dataset) if is_fixed else cfg.max_boxes,
        cut_boxes=cfg.cut_boxes or is_fixed,
        mosaic=mosaic,
        **options,
    )


def evaluation_loader(
    cfg: Config,
    dataset: Any,
    pipeline: Pipeline,
    runtime: Runtime,
    stop: StopRequest | None = None,
) -> BatchLoader:
    """Batches of every image once, in order, distributed over the ranks."""
    options = _options(cfg, runtime, stop)
    place = (cfg.eval_batch_size, [cfg.testing_size])
    if task_of(cfg) == "classify":
        return class_loader(dataset, pipeline, *place, training=False, **options)
    return detection_loader(dataset, pipeline, *place, training=False, max_boxes=cfg.max_boxes, **options)


def _options(cfg: Config, runtime: Runtime, stop: StopRequest | None) -> dict[str, Any]:
    """Options common to the loaders of training and evaluation and of both tasks."""
    return {
        "max_image_pixels": cfg.max_image_pixels,
        "on_bad_image": cfg.on_bad_image,
        "seed": cfg.seed,
        "num_workers": cfg.num_parallel_workers,
        "stall_timeout": cfg.data_timeout,
        "rank": runtime.rank,
        "group_size": runtime.group_size,
        "is_stopped": (stop or StopRequest()).is_made,
    }


def _enough_boxes(max_boxes: int, dataset: DetectionDataset) -> int:
    """`max_boxes`, doubled until the most crowded image fits.

    With static shapes, a batch with more rows of boxes would trigger a compile of minutes. A mosaic of several images
    may still have more boxes: these are dropped and counted.
    """
    most = max((int((~sample.iscrowd).sum()) for sample in dataset.samples), default=0)
    rows = max_boxes
    while rows < most:
        rows *= 2
    if rows > max_boxes:
        log.info("max_boxes is raised to %d: an image has %d boxes, and the shapes of a step are static", rows, most)
    return rows


def fingerprint(dataset: DetectionDataset | ImageFolder) -> str:
    """SHA-256 of classes, file names, image ids and ground truth: a change of any of them changes it."""
    if isinstance(dataset, ImageFolder):
        return dataset.fingerprint()
    digest = hashlib.sha256(repr((dataset.class_names, dataset.category_ids)).encode())
    for sample in dataset.samples:
        digest.update(repr((sample.image_path.name, sample.image_id)).encode())
        for array in (sample.boxes, sample.labels, sample.iscrowd):
            digest.update(array.tobytes())
    return digest.hexdigest()
