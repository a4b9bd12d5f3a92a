"""Interface of an annotation format. A new format is a module with a subclass, and an entry in `table.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from msdet.data.annotations import RawAnnotations


@dataclass(frozen=True)
class SourceOptions:
    """Location and format of the annotations of a dataset.

    Attributes:
        data_dir: dataset folder; may be empty if both `ann_file` and `image_dir` are given.
        ann_file: COCO file, list of boxes, list of VOC images or folder of XML files, data.yaml or list of YOLO images;
            relative to data_dir or absolute; empty: found in data_dir.
        image_dir: image folder; relative to data_dir or absolute; empty: found in data_dir.
        dataset: name or alias of a format, or `auto`.
        layout: folder layout of COCO files; see `find_split`.
        class_names, num_classes: for formats that store class numbers only; empty and 0 if unknown.
        need_images: False if annotations alone are enough; see `find_split`.
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
    def root(self) -> Path:
        """data_dir as a path."""
        return Path(self.data_dir)


class AnnotationFormat(ABC):
    """Detects and reads annotations of one format.

    Attributes:
        name: value of the key `dataset`.
        old_names: further accepted values of the key.
        folder_description: what a folder of this format contains, for the message that no format was detected; empty:
            only a named file is read.
    """

    name: ClassVar[str]
    old_names: ClassVar[tuple[str, ...]] = ()
    folder_description: ClassVar[str] = ""

    def matches_folder(self, options: SourceOptions, split: str) -> bool:
        """True if `data_dir` contains annotations of this format."""
        return False

    def matches_file(self, path: Path) -> bool:
        """True if a given annotation file is of this format. Formats are tried in the order of the table."""
        return False

    @abstractmethod
    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        """Finds and parses the annotations of a split, without validating them.

        Raises:
            UserError: they are missing or cannot be read; the message lists what was looked for.
        """
