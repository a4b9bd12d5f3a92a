"""The YOLO format: one text file per image, and a data.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from msdet.data.annotations import RawAnnotations
from msdet.data.formats.format import AnnotationFormat, SourceOptions
from msdet.data.formats.text_lines import list_kind
from msdet.data.formats.yolo.layouts import find_yolo, is_yolo
from msdet.data.formats.yolo.read import load_yolo
from msdet.errors import UserError


class YoloFormat(AnnotationFormat):
    """See `AnnotationFormat`."""

    name: ClassVar[str] = "yolo"
    folder_description: ClassVar[str] = "YOLO (data.yaml, or images/ and labels/)"

    def matches_folder(self, options: SourceOptions, split: str) -> bool:
        return is_yolo(options.root)

    def matches_file(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if suffix == ".data":
            raise UserError(
                f"{path} is a darknet data file: give one of the image lists named in it, such as train.txt"
            )
        return suffix in (".yaml", ".yml") or (suffix == ".txt" and list_kind(path) == "paths")

    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        found = find_yolo(options.data_dir, split, options.ann_file, options.image_dir)
        names = found.names or tuple(options.class_names)
        return load_yolo(found.source, found.root, found.places, names, found.key_points)
