"""Folder layouts: where the images of a YOLO split are in a dataset folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from msdet.data.formats.yolo.data_yaml import SPLIT_NAMES, find_yaml, read_yaml
from msdet.errors import UserError


@dataclass(frozen=True)
class YoloSplit:
    """Location of a split.

    Attributes:
        source: the data.yaml or the folder, for messages.
        root: folder to which file names are relative.
        places: image folders, or lists of images.
        names: class names from the data.yaml; empty if it has none.
        key_points: number of key point values after the box in a label line, from the data.yaml.
    """

    source: Path
    root: Path
    places: tuple[Path, ...]
    names: tuple[str, ...]
    key_points: int = 0


def is_yolo(root: Path) -> bool:
    """True if a folder contains a data.yaml, or images/ and labels/."""
    if find_yaml(root) is not None:
        return True
    if (root / "images").is_dir() and (root / "labels").is_dir():
        return True
    names = {name for names in SPLIT_NAMES.values() for name in names}
    return any((root / name / "images").is_dir() and (root / name / "labels").is_dir() for name in names)


def find_yolo(data_dir: str, split: str, ann_file: str = "", image_dir: str = "") -> YoloSplit:
    """Finds the images of a split: those given in the data.yaml, else `images/train`, `train/images` or similar.

    Args:
        data_dir: contains the data.yaml, or the images and labels.
        split: `train`, `val` or `test`.
        ann_file: another data.yaml, or a list of images; relative to data_dir or absolute.
        image_dir: image folder that overrides the data.yaml and the search.

    Raises:
        UserError: they are missing.
    """
    root = Path(data_dir)
    is_list = ann_file.lower().endswith(".txt")
    path = root / ann_file if ann_file and not is_list else find_yaml(root)
    data_yaml = read_yaml(path) if path else None
    source, names = path or root, data_yaml.names if data_yaml else ()
    places: tuple[Path, ...]
    if is_list:
        places = (root / ann_file,)
    elif image_dir:
        places = (root / image_dir,)
    elif data_yaml and split in data_yaml.splits:
        places = data_yaml.splits[split]
    else:
        places = _find_folder(path.parent if path else root, split, source)
    missing = next((place for place in places if not place.exists()), None)
    if missing is not None:
        raise UserError(f"{source}: {missing} (the images of the split {split!r}) does not exist")
    folders = [place if place.is_dir() else source.parent if path else root for place in places]
    key_points = data_yaml.key_points if data_yaml else 0
    return YoloSplit(source, Path(os.path.commonpath(folders)), places, names, key_points)


def _find_folder(root: Path, split: str, source: Path) -> tuple[Path, ...]:
    names = SPLIT_NAMES[split]
    tried = [root / "images" / name for name in names] + [root / name / "images" for name in names]
    # coco128 and similar: images/train2017.
    tried += sorted((root / "images").glob(f"{split}20[0-9][0-9]"))
    found = [folder for folder in tried if folder.is_dir()]
    if not found:
        expected = ", ".join(str(folder.relative_to(root)) for folder in tried)
        raise UserError(f"{source} has no images of the split {split!r}; looked in {root} for {expected}")
    return (found[0],)
