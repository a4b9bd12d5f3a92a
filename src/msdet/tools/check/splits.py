"""Checks the splits of a detection dataset; see `src/msdet/tools/check/check.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.data.annotations import RawAnnotations, leaves_folder
from msdet.data.build_dataset import build_dataset
from msdet.data.dataset import DetectionDataset
from msdet.data.formats.file_names import resolve_file_names
from msdet.data.images.file_names import is_ignored_name, is_image_name
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from msdet.data.validation.fast_check import fast_findings
from msdet.data.validation.findings import SplitReport
from msdet.data.validation.image_scan import scan_images
from msdet.data.validation.inspection import NORMALISED_BOXES, inspect_annotations
from msdet.data.validation.statistics import BoxTable, class_counts
from msdet.errors import UserError
from msdet.models.recipe import get_recipe
from msdet.session.datasets import source_options
from msdet.text import first_few
from msdet.tools.check.anchors import anchor_recall, shape_iou, suggest_anchors
from msdet.tools.check.checked_split import CheckedSplit

if TYPE_CHECKING:
    from msdet.config import Config

_MIN_RECALL = 0.9


def check_detection(cfg: Config, splits: Sequence[str], decode: bool = True) -> list[CheckedSplit]:
    """Checks splits, and compares them.

    Args:
        cfg: configuration of the model.
        splits: "train", "val" or both, in this order.
        decode: decode the images instead of only reading their headers.
    """
    checked: list[CheckedSplit] = []
    for split in splits:
        result = check_split(cfg, split, decode)
        checked.append(result)
        if result.dataset is not None and split == "train" and not cfg.class_names and cfg.label_map == "dense":
            # The validation split must have the classes of the training split, no more and no less.
            cfg = cfg.replace(class_names=tuple(result.dataset.class_names), num_classes=0)
    if len(checked) == 2:
        compare_splits(*checked)
    return checked


def check_split(cfg: Config, split: str, decode: bool = True) -> CheckedSplit:
    """Checks one split."""
    report = SplitReport(split, cfg.data_dir, "")
    try:
        raw = load_annotations(source_options(cfg, split), split)
    except UserError as error:
        report.add("unreadable annotations", "error", str(error))
        return CheckedSplit(report, None, {})
    report.source, report.format = str(raw.source), raw.format
    if raw.store is None:
        for old, new in resolve_file_names(raw).items():
            report.add("file name differs", "warning", f"{old} does not exist; {new} is read instead", new, "renamed")
    masks = raw.json_bytes.count(b'"segmentation"')
    if masks:
        text = f"{raw.source}: {masks} annotations have masks; detectors read only the boxes"
        report.add("masks", "note", text, fix="removed")
    names = list(dict.fromkeys(str(image.file_name) for image in raw.images if _is_usable_name(image.file_name)))
    workers = max(1, cfg.num_parallel_workers)
    scan = scan_images(raw.image_dir, names, decode=decode, store=raw.store, workers=workers,
                       max_pixels=cfg.max_image_pixels)  # fmt: skip
    infos = dict(zip(names, scan, strict=True))
    digests = {name: info.digest for name, info in infos.items() if info.digest}
    find_duplicate_images(digests, report)
    if raw.store is None:
        find_unlisted_files(raw, names, report)
    cleaned = inspect_annotations(raw, cfg.class_names, infos, report)
    is_normalised = any(finding.kind == NORMALISED_BOXES for finding in report.findings)
    dataset = None if is_normalised else _build_dataset(cfg, cleaned, report)
    if dataset is not None:
        _add_statistics(cfg, dataset, report)
    return CheckedSplit(report, dataset, digests)


def _is_usable_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and not leaves_folder(name)


def _build_dataset(cfg: Config, cleaned: RawAnnotations, report: SplitReport) -> DetectionDataset | None:
    """The cleaned dataset, read by the same rules as for training."""
    if not cleaned.images:
        report.add("no images", "error", f"{cleaned.source}: no image can be used")
        return None
    options = ReadOptions(cfg.class_names, label_map=cfg.label_map, on_bad_box="skip", check_images=False)
    try:
        dataset = build_dataset(cleaned, options)
    except UserError as error:
        report.add("classes do not match", "error", str(error))
        return None
    count = len(dataset.class_names)
    if cfg.num_classes and cfg.label_map == "dense" and cfg.num_classes != count:
        text = f"{cfg.where('num_classes')} is {cfg.num_classes}, but {cleaned.source} has {count} classes"
        report.add("number of classes", "error", text)
    if cfg.num_classes and cfg.label_map != "dense" and count > cfg.num_classes:
        text = f"{cfg.where('num_classes')} is {cfg.num_classes}, but the largest category id is {count}"
        report.add("number of classes", "error", text)
    return dataset


def find_duplicate_images(digests: Mapping[str, str], report: SplitReport) -> None:
    """Reports image files with identical content."""
    names: dict[str, list[str]] = {}
    for name, digest in digests.items():
        names.setdefault(digest, []).append(name)
    for copies in names.values():
        if len(copies) > 1:
            text = f"{len(copies)} images are identical: {first_few(copies)}"
            report.add("duplicate image", "warning", text, copies[0])


def find_unlisted_files(raw: RawAnnotations, names: Sequence[str], report: SplitReport) -> None:
    """Reports files in the image folders that are not images, or that no annotation mentions."""
    known = set(names)
    unlisted, others = [], []
    for inner in sorted({name.rpartition("/")[0] for name in names}):
        try:
            entries = sorted(entry.name for entry in os.scandir(raw.image_dir / inner) if entry.is_file())
        except OSError:
            continue
        paths = [f"{inner}/{name}" if inner else name for name in entries if not is_ignored_name(name)]
        unlisted += [path for path in paths if is_image_name(Path(path).name) and path not in known]
        others += [path for path in paths if not is_image_name(Path(path).name) and path not in known]
    others = [path for path in others if not path.endswith((".xml", ".txt", ".json", ".yaml"))]
    if unlisted:
        text = f"{raw.image_dir}: the annotations do not list {len(unlisted)} images: {first_few(unlisted)}"
        report.add("image without an entry", "note", text)
    if others:
        report.add("not an image", "note", f"{raw.image_dir}: {len(others)} files are not images: {first_few(others)}")


def _add_statistics(cfg: Config, dataset: DetectionDataset, report: SplitReport) -> None:
    """Adds the statistics of a split, and findings based on them."""
    table = BoxTable.of(dataset)
    counts = class_counts(dataset, table)
    report.classes = [{"name": name, "boxes": boxes, "images": images} for name, boxes, images in counts]
    report.statistics = {
        "images": len(dataset),
        "images without boxes": dataset.report.images_without_boxes,
        "boxes": len(table.rows),
        "crowd regions": dataset.report.crowds,
        "classes": len(counts),
        "classes with boxes": sum(boxes > 0 for _, boxes, _ in counts),
        "maximum boxes per image": int(np.bincount(table.rows, minlength=1).max()) if len(table.rows) else 0,
    }
    report.findings += fast_findings(cfg, dataset, report.split)
    if not len(table.rows):
        return
    sides = table.sides_at(cfg.testing_size, cfg.resize)
    report.statistics["median box size at the input, px"] = [round(float(side), 1) for side in np.median(sides, axis=0)]
    _add_anchor_recall(cfg, table, sides, report)


def _add_anchor_recall(cfg: Config, table: BoxTable, sides: np.ndarray, report: SplitReport) -> None:
    scale = sides / np.maximum(table.boxes[:, 2:] - table.boxes[:, :2], 1e-6)
    boxes = (table.boxes.reshape(-1, 2, 2) * scale[:, None]).reshape(-1, 4)
    recipe = get_recipe(cfg)
    recall = anchor_recall(recipe, boxes, cfg.testing_size)
    if recall is None:
        return
    report.statistics["anchor recall (IoU 0.5)"] = round(recall, 4)
    suggestion = _better_anchors(recipe.anchor_sizes(), sides, recall, report) if report.split == "train" else ""
    if recall < _MIN_RECALL:
        text = f"the anchors match {recall:.1%} of the boxes at {cfg.testing_size[0]} px (IoU 0.5){suggestion}"
        report.add("low anchor recall", "warning", text)


def _better_anchors(shapes: np.ndarray | None, sides: np.ndarray, recall: float, report: SplitReport) -> str:
    """Suggests k-means anchors for a YOLO model, if they match more boxes."""
    if shapes is None or len(np.unique(sides, axis=0)) < len(shapes):
        return ""
    anchors = suggest_anchors(sides, len(shapes)).round(1)
    better = float((shape_iou(sides, anchors).max(axis=1) >= 0.5).mean())
    if better <= recall:
        return "; k-means of these boxes finds no better anchors"
    report.statistics["suggested anchors"] = anchors.tolist()
    report.statistics["recall of the suggested anchors"] = round(better, 4)
    pairs = ",".join(f"[{width:g},{height:g}]" for width, height in anchors)
    return f"; --anchors=[{pairs}] would match {better:.1%} (but not fit a checkpoint trained with others)"


def compare_splits(train: CheckedSplit, val: CheckedSplit) -> None:
    """Reports validation images that are also training images, and classes that only occur in the validation."""
    names = {digest: name for name, digest in train.digests.items()}
    shared = [(name, names[digest]) for name, digest in val.digests.items() if digest in names]
    if shared:
        pairs = first_few([name if name == other else f"{name} = {other}" for name, other in shared])
        text = f"{len(shared)} of {len(val.digests)} validation images are also training images: {pairs}"
        val.report.add("training image in validation", "warning", text, shared[0][0])
    in_train = {row["name"] for row in train.report.classes if row["boxes"]}
    unseen = [row["name"] for row in val.report.classes if row["boxes"] and row["name"] not in in_train]
    if unseen and train.report.classes:
        text = f"{len(unseen)} classes have boxes in validation but none in training: {first_few(unseen)}"
        val.report.add("class without training boxes", "warning", text)
