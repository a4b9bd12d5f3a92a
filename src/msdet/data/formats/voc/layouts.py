"""Folder layouts: where the VOC annotations of a split are in a dataset folder."""

from __future__ import annotations

from pathlib import Path

from msdet.data.formats.voc.read import VocPart
from msdet.data.images.file_names import image_names
from msdet.errors import UserError

_LISTS = Path("ImageSets") / "Main"
# Folders of exports that have images and XML files next to each other.
_EXPORT_FOLDERS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}


def is_voc(root: Path) -> bool:
    """True for a VOCdevkit, the folder of one year, or an export with XML files next to the images."""
    if _years(root) or (root / "Annotations").is_dir():
        return True
    return any(_has_xml(root / name) for names in _EXPORT_FOLDERS.values() for name in names)


def find_voc(
    data_dir: str, split: str, ann_file: str = "", image_dir: str = "", plus: bool = False
) -> tuple[Path, Path, list[VocPart]]:
    """The source for messages, the folder to which file names are relative, and the parts to read.

    Without `ann_file`, the split `val` is the list `test.txt` if there is one, and `train` is then `trainval.txt`; else
    they are `val.txt` and `train.txt`. The lists of several years are concatenated.

    Args:
        data_dir: a VOCdevkit or its parent, the folder of one year, or an export with `train/` and `valid/`.
        split: `train`, `val` or `test`.
        ann_file: a list of images, or a folder of XML files; relative to data_dir or absolute.
        image_dir: folder of the images of `ann_file`; empty: `JPEGImages` next to `Annotations`, else the folder of the
            XML files.
        plus: `train` includes the test images of 2007, and `val` consists of those of later years.

    Raises:
        UserError: the files are missing.
    """
    root = Path(data_dir)
    if ann_file:
        return _named(root, root / ann_file, root / image_dir if image_dir else None)
    if not root.is_dir():
        raise UserError(f"data_dir {root} is not a folder")
    years = _years(root)
    if not years and not (root / "Annotations").is_dir():
        return _export(root, split)
    base = years[0].parent if years else root
    parts = [
        VocPart(year / _LISTS / f"{name}.txt", year / "Annotations", year / "JPEGImages")
        for year, name in _lists(years or [root], split, plus)
    ]
    if not parts:
        lists = ", ".join(path.name for year in years or [root] for path in sorted((year / _LISTS).glob("*.txt"))[:6])
        raise UserError(
            f"data_dir {root} contains no list of the split {split!r}; ImageSets/Main contains {lists or 'no list'}. "
            f"Give a list or a folder of XML files with --{split}_ann_file"
        )
    return base, base, parts


def _years(root: Path) -> list[Path]:
    for base in (root, root / "VOCdevkit"):
        found = sorted(path for path in base.glob("VOC20[0-9][0-9]") if (path / "Annotations").is_dir())
        if found:
            return found
    return []


def _lists(years: list[Path], split: str, plus: bool) -> list[tuple[Path, str]]:
    """Year folders and names of the lists of a split, chosen so that training and validation share no image."""
    if plus:
        return _lists_plus(years, split)
    tested = [(year, "test") for year in years if _has_list(year, "test")]
    if split == "test" or (split == "val" and tested):
        return tested
    if split == "val":
        return [(year, "val") for year in years if _has_list(year, "val")]
    wanted = [(year, "trainval" if tested and _has_list(year, "trainval") else "train") for year in years]
    return [(year, name) for year, name in wanted if _has_list(year, name)]


def _lists_plus(years: list[Path], split: str) -> list[tuple[Path, str]]:
    if split == "train":
        wanted = [
            (year, name) for year in years for name in ("trainval", "test") if name == "trainval" or _is_2007(year)
        ]
    else:
        wanted = [(year, "test") for year in years if not _is_2007(year)]
    return [(year, name) for year, name in wanted if _has_list(year, name)]


def _is_2007(year: Path) -> bool:
    return year.name == "VOC2007"


def _has_list(year: Path, name: str) -> bool:
    return (year / _LISTS / f"{name}.txt").is_file()


def _export(root: Path, split: str) -> tuple[Path, Path, list[VocPart]]:
    for name in _EXPORT_FOLDERS[split]:
        if _has_xml(root / name):
            return root / name, root, [VocPart(None, root / name, root / name)]
    names = " or ".join(f"{name}/" for name in _EXPORT_FOLDERS[split])
    raise UserError(
        f"data_dir {root} contains no split {split!r} with VOC annotations; looked for VOCdevkit/VOC2007/, "
        f"Annotations/ with ImageSets/Main/, and XML files in {names}"
    )


def _named(root: Path, path: Path, image_dir: Path | None) -> tuple[Path, Path, list[VocPart]]:
    """As `find_voc`, for a given list of images or folder of XML files."""
    if path.is_dir():
        sibling = path.parent / "JPEGImages"
        images = image_dir or (path if image_names(path) or not sibling.is_dir() else sibling)
        return path, images, [VocPart(None, path, images)]
    if not path.is_file():
        raise UserError(f"{path} is missing: neither a list of images nor a folder of XML files")
    year = next((folder for folder in (path.parent.parent.parent, path.parent, root)
                 if (folder / "Annotations").is_dir()), None)  # fmt: skip
    if year is None:
        raise UserError(f"the folder Annotations/ of the list {path} is missing; looked in {path.parent} and {root}")
    images = image_dir or year / "JPEGImages"
    return path, images, [VocPart(path, year / "Annotations", images)]


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*.xml"), None) is not None
