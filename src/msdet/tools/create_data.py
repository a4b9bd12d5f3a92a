"""Converts the annotations of a data set, in any form that is read, to MindRecord files or to COCO files.

msdet create_data --config configs/efficientdet_d0.yaml --data_dir DIR --mindrecord_dir OUT
msdet create_data --config configs/yolov4.yaml --data_dir DIR --to coco --output OUT
On ModelArts --enable_modelarts True --data_url DATA --train_url URL makes what train.py --data_url URL trains from.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.config import parse_command_line
from msdet.errors import UsageError, UserError

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="msdet create_data",
        description="Converts annotations of any form that is read to MindRecord files (with the images) or to COCO "
        "files. Other flags are keys of the configuration: data_dir, dataset, class_names, on_bad_box, ...",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="a model's configuration: where the data is and what is wrong")
    parser.add_argument("--to", choices=("mindrecord", "coco"), default="mindrecord", help="what to write")
    parser.add_argument("--output", default="", help="folder to write to; for mindrecord, mindrecord_dir is the same")
    parser.add_argument("--splits", default="train,val", help="which, e.g. train (default: train,val)")
    args, keys = parser.parse_known_args(list(argv))
    cfg = parse_command_line(["--config", args.config, *keys], "create_data")
    splits = [split for split in args.splits.replace(" ", "").split(",") if split]
    wrong = [split for split in splits if split not in ("train", "val", "test")]
    if wrong or not splits:
        raise UsageError(f"--splits is {args.splits!r}; it takes train, val, test or several of them with commas")
    _require_delivered(cfg, args.to, args.output)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    from msdet.runtime.modelarts import on_modelarts

    return on_modelarts(lambda ready: convert(ready, splits, args.to, args.output))(cfg)


def convert(cfg: Config, splits: Sequence[str], form: str, output: str) -> int:
    """Converts the splits of a configuration; all are read before anything is written.

    Raises:
        UserError: something is wrong with the data, or there is something where the result should be.
    """
    folder = Path(output or (cfg.mindrecord_dir if form == "mindrecord" else "") or _job_folder(cfg, form))
    if form == "mindrecord":
        from msdet.data.formats.mindrecord.read import refuse_foreign_mindrecord

        refuse_foreign_mindrecord(folder)
    datasets: dict[str, DetectionDataset] = {}
    for split in splits:
        datasets[split] = _read(cfg, split)
        if not cfg.class_names and cfg.label_map == "dense":
            # All splits number the classes alike.
            cfg = cfg.replace(class_names=tuple(datasets[split].class_names))
    places = {split: folder / (split if form == "mindrecord" else f"{split}.json") for split in splits}
    there = [str(place) for place in places.values() if place.exists()]
    if there:
        raise UserError(f"{' and '.join(there)} exists already: nothing is written over; remove it first")
    for split, dataset in datasets.items():
        sys.stdout.write(_write(dataset, folder, split, form) + "\n")
    return 0


def _read(cfg: Config, split: str) -> DetectionDataset:
    from msdet.data.formats.mindrecord.image_folder import to_detection_dataset
    from msdet.models.recipe import task_of
    from msdet.session.datasets import open_image_folder, read_files

    if task_of(cfg) == "detect":
        return read_files(cfg, split)
    return to_detection_dataset(open_image_folder(cfg.replace(mindrecord_dir=""), split)[0])


def _require_delivered(cfg: Config, form: str, output: str) -> None:
    """A job on ModelArts delivers `output_path` and nothing else; its other files are gone with its machine."""
    typed = output or (cfg.mindrecord_dir if form == "mindrecord" else "")
    whole = Path(cfg.output_path).absolute()
    if cfg.enable_modelarts and cfg.train_url and typed and not Path(typed).absolute().is_relative_to(whole):
        raise UsageError(
            f"{typed} is not delivered to train_url {cfg.train_url}, which gets what is in output_path {whole}: leave "
            "--output and --mindrecord_dir out, or name a folder in output_path"
        )


def _job_folder(cfg: Config, form: str) -> str:
    if not cfg.enable_modelarts:
        raise UsageError("say where to write: --mindrecord_dir=DIR, or --output=DIR")
    from msdet.runtime.modelarts import RECORDS

    return str(Path(cfg.output_path) / (RECORDS if form == "mindrecord" else form))


def _write(dataset: DetectionDataset, folder: Path, split: str, form: str) -> str:
    """Writes one split and says what was written."""
    counts = f"{len(dataset)} images, {dataset.report.boxes} boxes, {dataset.report.crowds} crowd regions"
    if form == "mindrecord":
        from msdet.data.formats.mindrecord.write import SHARDS, write_mindrecord

        return f"{write_mindrecord(dataset, folder, split)}: {counts} in {SHARDS} shards, read back and compared"
    from msdet.data.formats.coco.write import coco_of, write_coco

    write_coco(coco_of(dataset), folder / f"{split}.json")
    where = "" if dataset.store is None else " (inside MindRecord files)"
    return f"{folder / f'{split}.json'}: {counts}; file names start from {dataset.image_dir}{where}"
