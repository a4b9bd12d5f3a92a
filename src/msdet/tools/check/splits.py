"""The check of a detector's splits: see `src/msdet/tools/check/check.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.data.annotations import RawAnnotations
from msdet.data.build_dataset import build_dataset
from msdet.data.dataset import DetectionDataset
from msdet.data.formats.file_names import resolve_file_names
from msdet.data.images.file_names import is_ignored_name, is_image_name
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from msdet.data.validation.fast_check import fast_findings
from msdet.data.validation.findings import SplitReport
from msdet.data.validation.image_scan import scan_images
from msdet.data.validation.inspection import SHARES, inspect
from msdet.data.validation.statistics import BoxTable, class_counts
from msdet.errors import UserError
from msdet.models.recipe import get_recipe
from msdet.session.datasets import source_options
from msdet.text import first_few
from msdet.tools.check.anchors import anchor_recall, shape_iou, suggest_anchors
from msdet.tools.check.checked import Checked

if TYPE_CHECKING:
    from msdet.config import Config

_LEAST_RECALL = 0.9


def check_detection(cfg: Config, splits: Sequence[str], decode: bool = True) -> list[Checked]:
    """Checks splits, and what they have in common.

    Args:
        cfg: of the model.
        splits: "train", "val" or both, in this order.
        decode: decode the images, not only look at their headers.
    """
    checked: list[Checked] = []
    for split in splits:
        one = check_split(cfg, split, decode)
        checked.append(one)
        if one.dataset is not None and split == "train" and not cfg.class_names and cfg.label_map == "dense":
            # The validation must know the classes of the training, no more and no less.
            cfg = cfg.replace(class_names=tuple(one.dataset.class_names), num_classes=0)
    if len(checked) == 2:
        compare_splits(*checked)
    return checked


def check_split(cfg: Config, split: str, decode: bool = True) -> Checked:
    """Checks one split."""
    report = SplitReport(split, cfg.data_dir, "")
    try:
        content = load_annotations(source_options(cfg, split), split)
    except UserError as error:
        report.add("unreadable annotations", "error", str(error))
        return Checked(report, None, {})
    report.source, report.format = str(content.source), content.format
    if content.store is None:
        for old, new in resolve_file_names(content).items():
            report.add("file name differs", "warning", f"{old} is there as {new}, which is read", new, "written so")
    masks = content.json_bytes.count(b'"segmentation"')
    if masks:
        text = f"{content.source}: {masks} annotations have masks, of which detectors read the boxes alone"
        report.add("masks", "note", text, fix="left out")
    names = list(dict.fromkeys(str(image.file_name) for image in content.images if _is_safe(image.file_name)))
    workers = max(1, cfg.num_parallel_workers)
    scan = scan_images(content.image_dir, names, decode=decode, store=content.store, workers=workers,
                       max_pixels=cfg.max_image_pixels)  # fmt: skip
    facts = dict(zip(names, scan, strict=True))
    digests = {name: fact.digest for name, fact in facts.items() if fact.digest}
    find_copies(digests, report)
    if content.store is None:
        find_strangers(content, names, report)
    cleaned = inspect(content, cfg.class_names, facts, report)
    is_told = any(finding.kind == SHARES for finding in report.findings)
    dataset = None if is_told else _assemble(cfg, cleaned, report)
    if dataset is not None:
        _measure(cfg, dataset, report)
    return Checked(report, dataset, digests)


def _is_safe(name: object) -> bool:
    from msdet.data.annotations import leaves_folder

    return isinstance(name, str) and bool(name) and not leaves_folder(name)


def _assemble(cfg: Config, cleaned: RawAnnotations, report: SplitReport) -> DetectionDataset | None:
    """The cleaned data set, under the rules that a training reads it by."""
    if not cleaned.images:
        report.add("no images", "error", f"{cleaned.source}: not one image can be used")
        return None
    options = ReadOptions(cfg.class_names, label_map=cfg.label_map, on_bad_box="skip", check_images=False)
    try:
        dataset = build_dataset(cleaned, options)
    except UserError as error:
        report.add("classes do not fit", "error", str(error))
        return None
    count = len(dataset.class_names)
    if cfg.num_classes and cfg.label_map == "dense" and cfg.num_classes != count:
        text = f"{cfg.where('num_classes')} is {cfg.num_classes}, but {cleaned.source} has {count} classes"
        report.add("number of classes", "error", text)
    if cfg.num_classes and cfg.label_map != "dense" and count > cfg.num_classes:
        text = f"{cfg.where('num_classes')} is {cfg.num_classes}, but the largest category id is {count}"
        report.add("number of classes", "error", text)
    return dataset


def find_copies(digests: Mapping[str, str], report: SplitReport) -> None:
    """Notes images of one content under several names."""
    names: dict[str, list[str]] = {}
    for name, digest in digests.items():
        names.setdefault(digest, []).append(name)
    for copies in names.values():
        if len(copies) > 1:
            text = f"{len(copies)} images are the same file: {first_few(copies)}"
            report.add("image is there twice", "warning", text, copies[0])


def find_strangers(content: RawAnnotations, names: Sequence[str], report: SplitReport) -> None:
    """Notes files beside the annotated images that are none, or that no annotation names."""
    known = set(names)
    unlisted, others = [], []
    for inner in sorted({name.rpartition("/")[0] for name in names}):
        try:
            entries = sorted(entry.name for entry in os.scandir(content.image_dir / inner) if entry.is_file())
        except OSError:
            continue
        paths = [f"{inner}/{name}" if inner else name for name in entries if not is_ignored_name(name)]
        unlisted += [path for path in paths if is_image_name(Path(path).name) and path not in known]
        others += [path for path in paths if not is_image_name(Path(path).name) and path not in known]
    others = [path for path in others if not path.endswith((".xml", ".txt", ".json", ".yaml"))]
    if unlisted:
        text = f"{content.image_dir}: the annotations do not name {len(unlisted)} images: {first_few(unlisted)}"
        report.add("image without an entry", "note", text)
    if others:
        report.add("no image", "note", f"{content.image_dir}: {len(others)} files are no images: {first_few(others)}")


def _measure(cfg: Config, dataset: DetectionDataset, report: SplitReport) -> None:
    """Numbers of a split, and what they say about a training."""
    table = BoxTable.of(dataset)
    counts = class_counts(dataset, table)
    report.classes = [{"name": name, "boxes": boxes, "images": images} for name, boxes, images in counts]
    report.numbers = {
        "images": len(dataset),
        "images without boxes": dataset.report.images_without_boxes,
        "boxes": len(table.rows),
        "crowd regions": dataset.report.crowds,
        "classes": len(counts),
        "classes with boxes": sum(boxes > 0 for _, boxes, _ in counts),
        "most boxes in an image": int(np.bincount(table.rows, minlength=1).max()) if len(table.rows) else 0,
    }
    report.findings += fast_findings(cfg, dataset, report.split)
    if not len(table.rows):
        return
    sides = table.sides_at(cfg.testing_size, cfg.resize)
    report.numbers["median box at the input, px"] = [round(float(side), 1) for side in np.median(sides, axis=0)]
    _meet_anchors(cfg, table, sides, report)


def _meet_anchors(cfg: Config, table: BoxTable, sides: np.ndarray, report: SplitReport) -> None:
    scale = sides / np.maximum(table.boxes[:, 2:] - table.boxes[:, :2], 1e-6)
    boxes = (table.boxes.reshape(-1, 2, 2) * scale[:, None]).reshape(-1, 4)
    recipe = get_recipe(cfg)
    recall = anchor_recall(recipe, boxes, cfg.testing_size)
    if recall is None:
        return
    report.numbers["boxes that an anchor meets (IoU 0.5)"] = round(recall, 4)
    hint = _better_anchors(recipe.anchor_shapes(), sides, recall, report) if report.split == "train" else ""
    if recall < _LEAST_RECALL:
        text = f"the model's anchors meet {recall:.1%} of the boxes at {cfg.testing_size[0]} px (IoU 0.5){hint}"
        report.add("anchors miss boxes", "warning", text)


def _better_anchors(shapes: np.ndarray | None, sides: np.ndarray, recall: float, report: SplitReport) -> str:
    """Suggests anchors to a YOLO, if such would meet more boxes."""
    if shapes is None or len(np.unique(sides, axis=0)) < len(shapes):
        return ""
    anchors = suggest_anchors(sides, len(shapes)).round(1)
    better = float((shape_iou(sides, anchors).max(axis=1) >= 0.5).mean())
    if better <= recall:
        return "; k-means of these boxes finds none that meet more"
    report.numbers["anchors for these boxes"] = anchors.tolist()
    report.numbers["boxes that those would meet"] = round(better, 4)
    pairs = ",".join(f"[{width:g},{height:g}]" for width, height in anchors)
    return f"; --anchors=[{pairs}] would meet {better:.1%} (a checkpoint trained with others does not fit then)"


def compare_splits(train: Checked, val: Checked) -> None:
    """Notes what training and validation share, and classes that only one of them has."""
    names = {digest: name for name, digest in train.digests.items()}
    shared = [(name, names[digest]) for name, digest in val.digests.items() if digest in names]
    if shared:
        pairs = first_few([name if name == other else f"{name} = {other}" for name, other in shared])
        text = f"{len(shared)} of {len(val.digests)} validation images are training images too: {pairs}"
        val.report.add("training image in the validation", "warning", text, shared[0][0])
    in_train = {row["name"] for row in train.report.classes if row["boxes"]}
    unseen = [row["name"] for row in val.report.classes if row["boxes"] and row["name"] not in in_train]
    if unseen and train.report.classes:
        text = f"{len(unseen)} classes have boxes in the validation but none in the training: {first_few(unseen)}"
        val.report.add("class without training boxes", "warning", text)
