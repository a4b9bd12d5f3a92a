"""Folder layouts: where the annotation file and the images of a split are in a dataset folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msdet.errors import UsageError, UserError


@dataclass(frozen=True)
class SplitPaths:
    """The annotation file and the image folder of one split."""

    ann_file: Path
    image_dir: Path


# layout -> split -> (annotation file, image folder), relative to data_dir.
LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    "coco2017": {
        "train": ("annotations/instances_train2017.json", "train2017"),
        "val": ("annotations/instances_val2017.json", "val2017"),
        "test": ("annotations/image_info_test-dev2017.json", "test2017"),
    },
    "coco2014": {
        "train": ("annotations/instances_train2014.json", "train2014"),
        "val": ("annotations/instances_val2014.json", "val2014"),
        "test": ("annotations/image_info_test2014.json", "test2014"),
    },
    "plain": {
        "train": ("annotations/train.json", "train"),
        "val": ("annotations/val.json", "val"),
        "test": ("annotations/test.json", "test"),
    },
    # The file names of RefineDet in the old model zoo.
    "coco2017_instance": {
        "train": ("annotations/instance_train2017.json", "train2017"),
        "val": ("annotations/instance_val2017.json", "val2017"),
        "test": ("annotations/image_info_test-dev2017.json", "test2017"),
    },
    # The layout of Ultralytics' download of COCO.
    "coco2017_images": {
        "train": ("annotations/instances_train2017.json", "images/train2017"),
        "val": ("annotations/instances_val2017.json", "images/val2017"),
        "test": ("annotations/image_info_test-dev2017.json", "images/test2017"),
    },
    "roboflow": {
        "train": ("train/_annotations.coco.json", "train"),
        "val": ("valid/_annotations.coco.json", "valid"),
        "test": ("test/_annotations.coco.json", "test"),
    },
}


def find_split(
    data_dir: str | Path,
    split: str,
    *,
    layout: str = "auto",
    ann_file: str | Path = "",
    image_dir: str | Path = "",
    need_images: bool = True,
) -> SplitPaths:
    """Finds the annotation file and image folder of a split.

    Args:
        data_dir: the dataset folder.
        split: `train`, `val` or `test`.
        layout: a name of `LAYOUTS`, or `auto` for the only layout whose files exist.
        ann_file, image_dir: override the layout; relative to data_dir or absolute. If both are given no layout is
            needed, and data_dir may be empty if both are absolute.
        need_images: False accepts a missing image folder; a given annotation file is enough then.

    Raises:
        UsageError: the layout does not exist.
        UserError: the folder, the file or the images are missing, or two layouts match; the message lists what was
            looked for.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r} does not exist: choose auto, {', '.join(LAYOUTS)}")
    root = Path(data_dir)
    if ann_file and image_dir:
        return _existing(SplitPaths(root / ann_file, root / image_dir), split, need_images)
    if ann_file and not need_images and not (str(data_dir) and root.is_dir()):
        return _existing(SplitPaths(root / ann_file, (root / ann_file).parent), split, need_images)
    if not str(data_dir):
        raise UserError("data_dir is empty: give the folder of annotations and images with --data_dir=DIR")
    if not root.is_dir():
        raise UserError(f"data_dir {root} is not a folder; expected in it {_expected(split, layout)}")
    names = list(LAYOUTS) if layout == "auto" else [layout]
    candidates = {name: _candidate(root, name, split, ann_file, image_dir) for name in names}
    found = {name: paths for name, paths in candidates.items() if paths.ann_file.is_file() and paths.image_dir.is_dir()}
    if len(set(found.values())) > 1:
        names_found = " and ".join(f"{name} ({paths.ann_file.relative_to(root)})" for name, paths in found.items())
        raise UserError(
            f"data_dir {root} contains the split {split!r} twice, as {names_found}: set layout to one of them"
        )
    if found:
        return next(iter(found.values()))
    for paths in candidates.values():
        if paths.ann_file.is_file():
            return _existing(paths, split, need_images)
    raise UserError(
        f"data_dir {root} contains no split {split!r}; looked for {_expected(split, layout, ann_file, image_dir)}. "
        f"Files with other names: set {split}_ann_file and {split}_image_dir"
    )


def _candidate(root: Path, layout: str, split: str, ann_file: str | Path, image_dir: str | Path) -> SplitPaths:
    default_ann, default_images = LAYOUTS[layout][_known_split(split)]
    return SplitPaths(root / (ann_file or default_ann), root / (image_dir or default_images))


def _known_split(split: str) -> str:
    if split not in ("train", "val", "test"):
        raise UsageError(f"split {split!r} does not exist: choose train, val or test")
    return split


def _expected(split: str, layout: str, ann_file: str | Path = "", image_dir: str | Path = "") -> str:
    names = list(LAYOUTS) if layout == "auto" else [layout]
    pairs = [LAYOUTS[name][_known_split(split)] for name in names]
    return ", or ".join(dict.fromkeys(f"{ann_file or ann} with {image_dir or images}/" for ann, images in pairs))


def _existing(paths: SplitPaths, split: str, need_images: bool) -> SplitPaths:
    if not paths.ann_file.is_file():
        raise UserError(f"the annotation file of split {split!r} is missing: {paths.ann_file}")
    if need_images and not paths.image_dir.is_dir():
        raise UserError(f"the image folder of split {split!r} is missing: {paths.image_dir} (for {paths.ann_file})")
    return paths
