"""The front door: which annotations a folder holds, and their content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from msdet.data.annotations import Content
from msdet.data.formats.coco.layouts import LAYOUTS, find_split
from msdet.data.formats.coco.read import load_coco
from msdet.data.formats.mindrecord.read import has_split, load_mindrecord, refuse_other_writers
from msdet.data.formats.text_lines import read_lines
from msdet.data.formats.txt import load_txt, split_line
from msdet.data.formats.voc.layouts import find_voc, is_voc
from msdet.data.formats.voc.read import VocPart, load_voc
from msdet.data.formats.yolo.layouts import find_yolo, is_yolo
from msdet.data.formats.yolo.read import load_yolo
from msdet.data.images.file_names import is_image_name
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)

# What `dataset` may be called: the seeds' names besides our own.
OLD_NAMES = {"other": "txt", "voc0712": "voc", "voc0712plus": "voc"}
NO_RECORDS = "make them with msdet create_data"
FORMATS = ("coco", "voc", "yolo", "txt", "mindrecord")


@dataclass(frozen=True)
class SourceOptions:
    """Where annotations are looked for.

    Attributes:
        data_dir: folder of the data set; may be empty where both next ones are given.
        ann_file: COCO file, list of boxes, list of VOC images or folder of XML files, data.yaml or list of YOLO images;
            relative to data_dir or absolute; empty: found in data_dir.
        image_dir: folder of the images; the same.
        dataset: a name of `FORMATS` or `OLD_NAMES`, or `auto`.
        layout: of COCO files; see `find_split`.
        class_names, num_classes: of formats that number their classes; empty and 0 if unknown.
        need_images: False where annotations alone are enough; see `find_split`.
        txt_order, txt_first_class: see `load_txt`.
        voc_first_pixel: see `load_voc`.
    """

    data_dir: str = ""
    ann_file: str = ""
    image_dir: str = ""
    dataset: str = "auto"
    layout: str = "auto"
    class_names: Sequence[str] = ()
    num_classes: int = 0
    need_images: bool = True
    txt_order: str = "xyxy"
    txt_first_class: int = 0
    voc_first_pixel: int = 1

    @property
    def format(self) -> str:
        """The wanted format, by our own name of it."""
        return OLD_NAMES.get(self.dataset, self.dataset)

    @property
    def root(self) -> Path:
        """data_dir as a path."""
        return Path(self.data_dir)


def load_content(options: SourceOptions, split: str) -> Content:
    """Finds the annotations of a split and says what they hold, unchecked.

    Args:
        options: where and what.
        split: `train`, `val`, or `test` for images that need no annotations.

    Raises:
        UserError: they are not there or cannot be read; the message says what was looked for.
    """
    kind = options.format
    if kind == "auto":
        kind = detect_format(options, split)
        logger.info("%s: annotations of the form %r (set dataset to choose another)", _place(options), kind)
    return _LOADERS[kind](options, split)


def _place(options: SourceOptions) -> str:
    return f"data_dir {options.data_dir}" if options.data_dir else str(options.ann_file)


def detect_format(options: SourceOptions, split: str) -> str:
    """The format of what is there, told by the annotation file if one is named, else by the folder.

    Raises:
        UserError: nothing is recognised, or two formats are.
    """
    if options.ann_file:
        return _format_of_file(options.root / options.ann_file)
    root = options.root
    if not options.data_dir:
        raise UsageError("data_dir is empty: give the folder of the data set with --data_dir")
    if not root.is_dir():
        raise UserError(f"data_dir {root} is no folder")
    tests: dict[str, Callable[[], bool]] = {
        "mindrecord": lambda: has_split(root, split),
        "coco": lambda: _is_coco(options, split),
        "voc": lambda: is_voc(root),
        "yolo": lambda: is_yolo(root),
    }
    found = [kind for kind, is_there in tests.items() if is_there()]
    if len(found) > 1:
        raise UserError(
            f"data_dir {root} holds annotations of {len(found)} forms: {', '.join(found)}; set dataset to one"
        )
    if found:
        return found[0]
    _explain_nothing(options, split)


def _explain_nothing(options: SourceOptions, split: str) -> NoReturn:
    root = options.root
    refuse_other_writers(root)
    files = ", or ".join(dict.fromkeys(f"{layout[split][0]} with {layout[split][1]}/" for layout in LAYOUTS.values()))
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    holds = f"; it holds the folders {', '.join(folders[:8])}" if folders else ""
    if any(path.is_dir() for path in root.glob(f"{split}/*")):
        holds += f" (a folder a class in {split}/ is for classifiers)"
    raise UserError(
        f"data_dir {root} holds no split {split!r} of a data set of detectors{holds}. Looked for: COCO ({files}), VOC "
        "(VOCdevkit/, or Annotations/ and ImageSets/Main/), YOLO (data.yaml, or images/ and labels/). A list of boxes "
        f"is named by {split}_ann_file"
    )


def _is_coco(options: SourceOptions, split: str) -> bool:
    layouts = LAYOUTS.values() if options.layout == "auto" else [LAYOUTS[options.layout]]
    return any((options.root / layout[split][0]).is_file() for layout in layouts)


def _format_of_file(path: Path) -> str:
    if path.is_dir():
        return "voc"
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yolo"
    if suffix == ".data":
        raise UserError(f"{path} is a file of darknet: name the list of images in it that is meant, such as train.txt")
    if suffix != ".txt":
        return "coco"
    # A list of boxes holds some box, a list of YOLO images by their paths, a list of VOC names alone.
    has_paths = False
    for line in read_lines(path, with_file_names=True):
        name, boxes = split_line(line)
        if boxes:
            return "txt"
        has_paths |= "/" in name or "\\" in name or is_image_name(name)
    return "yolo" if has_paths else "voc"


def _load_coco(options: SourceOptions, split: str) -> Content:
    paths = find_split(
        options.data_dir,
        split,
        layout=options.layout,
        ann_file=options.ann_file,
        image_dir=options.image_dir,
        need_images=options.need_images,
    )
    return load_coco(paths.ann_file, paths.image_dir, require_annotations=split != "test")


def _load_voc(options: SourceOptions, split: str) -> Content:
    source, root, parts = find_voc(
        options.data_dir, split, options.ann_file, options.image_dir, plus=options.dataset == "voc0712plus"
    )
    _log_parts(parts)
    return load_voc(source, root, parts, options.class_names, options.voc_first_pixel, options.num_classes)


def _log_parts(parts: Sequence[VocPart]) -> None:
    for part in parts:
        logger.info("images of %s, annotations of %s", part.list_file or "all XML files", part.xml_dir)


def _load_yolo(options: SourceOptions, split: str) -> Content:
    found = find_yolo(options.data_dir, split, options.ann_file, options.image_dir)
    names = found.names or tuple(options.class_names)
    return load_yolo(found.source, found.root, found.places, names, found.key_points)


def _load_txt(options: SourceOptions, split: str) -> Content:
    ann_file = options.root / options.ann_file if options.ann_file else _list_of_boxes(options, split)
    return load_txt(
        ann_file,
        options.root / options.image_dir,
        options.class_names,
        options.num_classes,
        order=options.txt_order,
        first_class=options.txt_first_class,
    )


def _list_of_boxes(options: SourceOptions, split: str) -> Path:
    candidates = [options.root / f"{split}.txt", options.root / "annotations" / f"{split}.txt"]
    there = [path for path in candidates if options.data_dir and path.is_file()]
    if not there:
        raise UserError(
            f"{split}_ann_file is empty, and data_dir {options.data_dir!r} holds neither {split}.txt nor "
            f"annotations/{split}.txt: name the list of boxes with --{split}_ann_file"
        )
    return there[0]


def _load_mindrecord(options: SourceOptions, split: str) -> Content:
    if not has_split(options.root, split):
        refuse_other_writers(options.root)
        raise UserError(
            f"{options.root} holds no MindRecord files of the split {split!r} ({split}/{split}.mindrecord0): "
            f"{NO_RECORDS}"
        )
    content, store = load_mindrecord(options.root / split, split)
    content.store = store
    return content


_LOADERS: dict[str, Callable[[SourceOptions, str], Content]] = {
    "coco": _load_coco,
    "voc": _load_voc,
    "yolo": _load_yolo,
    "txt": _load_txt,
    "mindrecord": _load_mindrecord,
}
