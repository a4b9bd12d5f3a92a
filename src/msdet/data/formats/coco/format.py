"""The COCO format: one JSON file per split."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from msdet.data.annotations import RawAnnotations
from msdet.data.formats.coco.layouts import LAYOUTS, find_split
from msdet.data.formats.coco.read import load_coco
from msdet.data.formats.format import AnnotationFormat, SourceOptions


class CocoFormat(AnnotationFormat):
    """See `AnnotationFormat`."""

    name: ClassVar[str] = "coco"
    folder_description: ClassVar[str] = "COCO ({files})"

    def matches_folder(self, options: SourceOptions, split: str) -> bool:
        layouts = LAYOUTS.values() if options.layout == "auto" else [LAYOUTS[options.layout]]
        return any((options.root / layout[split][0]).is_file() for layout in layouts)

    def matches_file(self, path: Path) -> bool:
        return path.is_file() or path.suffix.lower() == ".json"

    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        paths = find_split(
            options.data_dir,
            split,
            layout=options.layout,
            ann_file=options.ann_file,
            image_dir=options.image_dir,
            need_images=options.need_images,
        )
        return load_coco(paths.ann_file, paths.image_dir, require_annotations=split != "test")
