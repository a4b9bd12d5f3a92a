"""Converts the annotations of a dataset, in any supported format, to MindRecord or COCO files.

msdet create_data --config configs/efficientdet_d0.yaml --data_dir DIR --mindrecord_dir OUT
msdet create_data --config configs/yolov4.yaml --data_dir DIR --to coco --output OUT
On ModelArts, --enable_modelarts True --data_url DATA --train_url URL creates the input of train.py --data_url URL.
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
        description="Converts annotations in any supported format to MindRecord files (with the images) or to COCO "
        "files. Other flags are keys of the configuration: data_dir, dataset, class_names, on_bad_box, ...",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        required=True,
        help="configuration of a model, with the location of the data",
    )
    parser.add_argument("--to", choices=("mindrecord", "coco"), default="mindrecord", help="output format")
    parser.add_argument("--output", default="", help="output folder; for mindrecord the same as mindrecord_dir")
    parser.add_argument("--splits", default="train,val", help="splits to convert (default: train,val)")
    args, keys = parser.parse_known_args(list(argv))
    cfg = parse_command_line(["--config", args.config, *keys], "create_data")
    splits = [split for split in args.splits.replace(" ", "").split(",") if split]
    wrong = [split for split in splits if split not in ("train", "val", "test")]
    if wrong or not splits:
        raise UsageError(f"--splits is {args.splits!r}; it takes train, val, test or a comma-separated list of them")
    _require_uploaded(cfg, args.to, args.output)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    from msdet.runtime.modelarts import on_modelarts

    return on_modelarts(lambda ready: convert(ready, splits, args.to, args.output))(cfg)


def convert(cfg: Config, splits: Sequence[str], output_format: str, output: str) -> int:
    """Converts the splits of a configuration; all are read before anything is written.

    Raises:
        UserError: the data cannot be read, or an output file already exists.
    """
    folder = Path(
        output or (cfg.mindrecord_dir if output_format == "mindrecord" else "") or _job_folder(cfg, output_format)
    )
    if output_format == "mindrecord":
        from msdet.data.formats.mindrecord.read import refuse_foreign_mindrecord

        refuse_foreign_mindrecord(folder)
    datasets: dict[str, DetectionDataset] = {}
    for split in splits:
        datasets[split] = _read(cfg, split)
        if not cfg.class_names and cfg.label_map == "dense":
            # All splits use the same class order.
            cfg = cfg.replace(class_names=tuple(datasets[split].class_names))
    paths = {split: folder / (split if output_format == "mindrecord" else f"{split}.json") for split in splits}
    existing = [str(path) for path in paths.values() if path.exists()]
    if existing:
        raise UserError(f"{' and '.join(existing)} already exists and is not overwritten: remove it first")
    for split, dataset in datasets.items():
        sys.stdout.write(_write(dataset, folder, split, output_format) + "\n")
    return 0


def _read(cfg: Config, split: str) -> DetectionDataset:
    from msdet.data.formats.mindrecord.image_folder import to_detection_dataset
    from msdet.models.recipe import task_of
    from msdet.session.datasets import open_image_folder, read_files

    if task_of(cfg) == "detect":
        return read_files(cfg, split)
    return to_detection_dataset(open_image_folder(cfg.replace(mindrecord_dir=""), split)[0])


def _require_uploaded(cfg: Config, output_format: str, output: str) -> None:
    """Rejects an output folder outside `output_path`: a ModelArts job uploads nothing else."""
    typed = output or (cfg.mindrecord_dir if output_format == "mindrecord" else "")
    output_path = Path(cfg.output_path).absolute()
    if cfg.enable_modelarts and cfg.train_url and typed and not Path(typed).absolute().is_relative_to(output_path):
        raise UsageError(
            f"{typed} would not be uploaded to train_url {cfg.train_url}, only output_path {output_path} is: omit "
            "--output and --mindrecord_dir, or choose a folder in output_path"
        )


def _job_folder(cfg: Config, output_format: str) -> str:
    if not cfg.enable_modelarts:
        raise UsageError("the output folder is missing: pass --mindrecord_dir=DIR or --output=DIR")
    from msdet.runtime.modelarts import RECORDS

    return str(Path(cfg.output_path) / (RECORDS if output_format == "mindrecord" else output_format))


def _write(dataset: DetectionDataset, folder: Path, split: str, output_format: str) -> str:
    """Writes one split; returns a summary."""
    counts = f"{len(dataset)} images, {dataset.report.boxes} boxes, {dataset.report.crowds} crowd regions"
    if output_format == "mindrecord":
        from msdet.data.formats.mindrecord.write import SHARDS, write_mindrecord

        return f"{write_mindrecord(dataset, folder, split)}: {counts} in {SHARDS} shards, verified by reading them back"
    from msdet.data.formats.coco.write import coco_of, write_coco

    write_coco(coco_of(dataset), folder / f"{split}.json")
    where = "" if dataset.store is None else " (inside MindRecord files)"
    return f"{folder / f'{split}.json'}: {counts}; file names are relative to {dataset.image_dir}{where}"
