"""Checks a dataset before training: files, annotations, classes, splits, and whether they fit the model.

msdet check --config configs/yolov4.yaml --data_dir DIR [--html FILE] [--json FILE] [--fix OUT]
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.config import parse_command_line
from msdet.errors import UsageError

if TYPE_CHECKING:
    from msdet.tools.check.checked_split import CheckedSplit


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="msdet check",
        description="Checks a dataset and reports its problems; the exit code is 1 if there are errors. "
        "Other flags are keys of the configuration: data_dir, dataset, class_names, ...",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="configuration of the model to train")
    parser.add_argument("--splits", default="train,val", help="splits to check (default: train,val)")
    parser.add_argument("--quick", action="store_true", help="read only the headers of the images, do not decode them")
    parser.add_argument("--json", default="", metavar="FILE", help="write all findings and statistics as JSON")
    parser.add_argument("--html", default="", metavar="FILE", help="write an HTML page with images and plots")
    parser.add_argument("--fix", default="", metavar="OUT", help="write cleaned annotations to a folder, as COCO files")
    args, keys = parser.parse_known_args(list(argv))
    cfg = parse_command_line(["--config", args.config, *keys], "check")
    splits = [split for split in args.splits.replace(" ", "").split(",") if split]
    if not splits or [split for split in splits if split not in ("train", "val")]:
        raise UsageError(f"--splits is {args.splits!r}; it takes train, val or train,val")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)

    from msdet.models.recipe import task_of
    from msdet.tools.check.folders import check_folders
    from msdet.tools.check.report import as_text, write_json
    from msdet.tools.check.splits import check_detection

    start = time.monotonic()
    if task_of(cfg) == "classify":
        checked = check_folders(cfg, splits, decode=not args.quick)
    else:
        checked = check_detection(cfg, splits, decode=not args.quick)
    seconds = time.monotonic() - start
    reports = [split.report for split in checked]
    sys.stdout.write(as_text(reports, seconds))
    if args.json:
        write_json(reports, Path(args.json))
        sys.stdout.write(f"findings and statistics: {args.json}\n")
    if args.html:
        from msdet.tools.check.page import write_html

        write_html(cfg, checked, Path(args.html))
        sys.stdout.write(f"page: {args.html}\n")
    if args.fix:
        _fix(checked, Path(args.fix))
    return 1 if any(report.count("error") for report in reports) else 0


def _fix(checked: Sequence[CheckedSplit], folder: Path) -> None:
    """Writes the cleaned annotations and the list of changes."""
    from msdet.data.dataset import DetectionDataset
    from msdet.data.formats.coco.write import coco_of, write_coco
    from msdet.files import atomic_path
    from msdet.text import json_text

    for split in checked:
        if not isinstance(split.dataset, DetectionDataset):
            sys.stdout.write(f"{split.report.split}: there is nothing to clean\n")
            continue
        path = folder / f"{split.report.split}.json"
        if path.exists():
            raise UsageError(f"{path} already exists and is not overwritten: choose another folder for --fix")
        write_coco(coco_of(split.dataset), path)
        changes = [f for f in split.report.findings if f.fix]
        lines = [json_text({"change": f.fix, "kind": f.kind, "text": f.text}) for f in changes]
        with atomic_path(path.with_suffix(".changes.jsonl")) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        name = split.report.split
        images = f"{len(split.dataset)} images, {split.dataset.report.boxes} boxes"
        sys.stdout.write(
            f"{path}: {images}; {len(changes)} changes, listed in {path.stem}.changes.jsonl. Train with "
            f"--{name}_ann_file={path} --{name}_image_dir={split.dataset.image_dir}\n"
        )
