"""The MindRecord format: images and annotations of a split in a few large files."""

from __future__ import annotations

from typing import ClassVar

from msdet.data.annotations import RawAnnotations
from msdet.data.formats.format import AnnotationFormat, SourceOptions
from msdet.data.formats.mindrecord.read import has_split, load_mindrecord, refuse_foreign_mindrecord
from msdet.errors import UserError

CREATE_HINT = "create them with msdet create_data"


class MindRecordFormat(AnnotationFormat):
    """See `AnnotationFormat`."""

    name: ClassVar[str] = "mindrecord"

    def matches_folder(self, options: SourceOptions, split: str) -> bool:
        return has_split(options.root, split)

    def load(self, options: SourceOptions, split: str) -> RawAnnotations:
        if not has_split(options.root, split):
            refuse_foreign_mindrecord(options.root)
            raise UserError(
                f"{options.root} contains no MindRecord files of the split {split!r} ({split}/{split}.mindrecord0): "
                f"{CREATE_HINT}"
            )
        raw, store = load_mindrecord(options.root / split, split)
        raw.store = store
        return raw
