"""The PASCAL VOC format: one XML file per image."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

from msdet.data.annotations import RawAnnotations
from msdet.data.formats.format import AnnotationFormat, SourceOptions
from msdet.data.formats.text_lines import list_kind
from msdet.data.formats.voc.layouts import find_voc, is_voc
from msdet.data.formats.voc.read import load_voc

logger = logging.getLogger(__name__)


class VocFormat(AnnotationFormat):
    """See `AnnotationFormat`. `voc0712plus` trains on trainval of 2007 and 2012 and on test of 2007."""

    name: ClassVar[str] = "voc"
    old_names: ClassVar[tuple[str, ...]] = ("voc0712", "voc0712plus")
    folder_description: ClassVar[str] = "VOC (VOCdevkit/, or Annotations/ and ImageSets/Main/)"

    def matches_folder(self, options: SourceOptions, split: str) -> bool:
        return is_voc(options.root)

    def matches_file(self, path: Path) -> bool:
        return path.is_dir() or (path.suffix.lower() == ".txt" and list_kind(path) == "names")

    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        source, root, parts = find_voc(
            options.data_dir, split, options.ann_file, options.image_dir, plus=options.dataset == "voc0712plus"
        )
        for part in parts:
            logger.info("images from %s, annotations from %s", part.list_file or "all XML files", part.xml_dir)
        return load_voc(source, root, parts, options.class_names, options.voc_first_pixel, options.num_classes)
