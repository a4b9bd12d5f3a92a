"""Table of the annotation formats."""

from __future__ import annotations

from msdet.data.formats.coco.format import CocoFormat
from msdet.data.formats.format import AnnotationFormat
from msdet.data.formats.mindrecord.format import MindRecordFormat
from msdet.data.formats.txt import TxtFormat
from msdet.data.formats.voc.format import VocFormat
from msdet.data.formats.yolo.format import YoloFormat
from msdet.errors import UsageError

# In the order in which they are tried for a given file; COCO accepts any file that no other format matches.
FORMATS: tuple[AnnotationFormat, ...] = (MindRecordFormat(), YoloFormat(), TxtFormat(), VocFormat(), CocoFormat())


def format_of(name: str) -> AnnotationFormat:
    """The format with a name or alias, as the key `dataset` gives it.

    Raises:
        UsageError: there is none.
    """
    found = next((kind for kind in FORMATS if name.lower() in (kind.name, *kind.old_names)), None)
    if found is None:
        raise UsageError(f"dataset is {name!r}; it takes auto or one of {', '.join(format_names())}")
    return found


def format_names() -> list[str]:
    """All values that the key `dataset` accepts for a format, aliases last."""
    return [*sorted(kind.name for kind in FORMATS), *(name for kind in FORMATS for name in kind.old_names)]
