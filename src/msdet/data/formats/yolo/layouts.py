"""Where YOLO annotations of a split lie inside a dataset folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from msdet.data.formats.yolo.data_yaml import SPLIT_NAMES, find_yaml, read_yaml
from msdet.errors import UserError


@dataclass(frozen=True)
class YoloSplit:
    """What to read of a split.

    Attributes:
        source: the data.yaml or the folder, for messages.
        root: folder that file names start from.
        places: folders of images, or lists of them.
        names: of the classes, as far as the data.yaml tells.
        key_points: numbers that follow the box in a line, by the data.yaml.
    """

    source: Path
    root: Path
    places: tuple[Path, ...]
    names: tuple[str, ...]
    key_points: int = 0


def is_yolo(root: Path) -> bool:
    """Whether a folder holds a data.yaml, or images/ and labels/."""
    if find_yaml(root) is not None:
        return True
    if (root / "images").is_dir() and (root / "labels").is_dir():
        return True
    names = {name for names in SPLIT_NAMES.values() for name in names}
    return any((root / name / "images").is_dir() and (root / name / "labels").is_dir() for name in names)


def find_yolo(data_dir: str, split: str, ann_file: str = "", image_dir: str = "") -> YoloSplit:
    """Finds the images of a split: those the data.yaml names, else `images/train`, `train/images` and the like.

    Args:
        data_dir: holds the data.yaml, or the images and labels.
        split: `train`, `val` or `test`.
        ann_file: another data.yaml, or a list of images; relative to data_dir or absolute.
        image_dir: folder of images that takes the place of what is named or found.

    Raises:
        UserError: they are not there.
    """
    root = Path(data_dir)
    is_list = ann_file.lower().endswith(".txt")
    path = root / ann_file if ann_file and not is_list else find_yaml(root)
    told = read_yaml(path) if path else None
    source, names = path or root, told.names if told else ()
    places: tuple[Path, ...]
    if is_list:
        places = (root / ann_file,)
    elif image_dir:
        places = (root / image_dir,)
    elif told and split in told.splits:
        places = told.splits[split]
    else:
        places = _found(path.parent if path else root, split, source)
    missing = next((place for place in places if not place.exists()), None)
    if missing is not None:
        raise UserError(f"{source}: {missing} (the images of the split {split!r}) does not exist")
    folders = [place if place.is_dir() else source.parent if path else root for place in places]
    key_points = told.key_points if told else 0
    return YoloSplit(source, Path(os.path.commonpath(folders)), places, names, key_points)


def _found(root: Path, split: str, source: Path) -> tuple[Path, ...]:
    names = SPLIT_NAMES[split]
    tried = [root / "images" / name for name in names] + [root / name / "images" for name in names]
    # coco128 and its like: one folder for all, in years.
    tried += sorted((root / "images").glob(f"{split}20[0-9][0-9]"))
    there = [folder for folder in tried if folder.is_dir()]
    if not there:
        looked = ", ".join(str(folder.relative_to(root)) for folder in tried)
        raise UserError(f"{source} names no images of the split {split!r}; looked in {root} for {looked}")
    return (there[0],)
