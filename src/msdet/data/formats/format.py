"""What a format of annotations must offer. A format is a file with such a class, and a line in `table.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from msdet.data.annotations import RawAnnotations


@dataclass(frozen=True)
class SourceOptions:
    """Where annotations are looked for.

    Attributes:
        data_dir: folder of the data set; may be empty where both next ones are given.
        ann_file: COCO file, list of boxes, list of VOC images or folder of XML files, data.yaml or list of YOLO images;
            relative to data_dir or absolute; empty: found in data_dir.
        image_dir: folder of the images; the same.
        dataset: the name of a format, an old one of it, or `auto`.
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
    def root(self) -> Path:
        """data_dir as a path."""
        return Path(self.data_dir)


class AnnotationFormat(ABC):
    """Recognises and reads annotations of one format.

    Attributes:
        name: as `dataset` names it.
        old_names: what else `dataset` may call it.
        folder_description: what a folder of this format contains, for the message that no format was detected; empty:
            only a named file is read.
    """

    name: ClassVar[str]
    old_names: ClassVar[tuple[str, ...]] = ()
    folder_description: ClassVar[str] = ""

    def matches_folder(self, options: SourceOptions, split: str) -> bool:
        """Whether `data_dir` holds annotations of this format."""
        return False

    def matches_file(self, path: Path) -> bool:
        """Whether a named annotation file is of this format. Formats are asked in the order of the table."""
        return False

    @abstractmethod
    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        """Finds the annotations of a split and reads what they hold, unchecked.

        Raises:
            UserError: they are not there or cannot be read; the message names what was looked for.
        """
