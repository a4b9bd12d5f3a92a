"""The formats of annotations."""

from __future__ import annotations

from msdet.data.formats.coco.format import CocoFormat
from msdet.data.formats.format import AnnotationFormat
from msdet.data.formats.mindrecord.format import MindRecordFormat
from msdet.data.formats.txt import TxtFormat
from msdet.data.formats.voc.format import VocFormat
from msdet.data.formats.yolo.format import YoloFormat
from msdet.errors import UsageError

# In the order in which a named file is offered to them; COCO's takes any that is left.
FORMATS: tuple[AnnotationFormat, ...] = (MindRecordFormat(), YoloFormat(), TxtFormat(), VocFormat(), CocoFormat())


def format_of(name: str) -> AnnotationFormat:
    """The format that `dataset` names.

    Raises:
        UsageError: there is none of the name.
    """
    found = next((kind for kind in FORMATS if name.lower() in (kind.name, *kind.old_names)), None)
    if found is None:
        raise UsageError(f"dataset is {name!r}; it takes auto or one of {', '.join(format_names())}")
    return found


def format_names() -> list[str]:
    """All names that `dataset` takes for a format, old ones behind the new."""
    return [*sorted(kind.name for kind in FORMATS), *(name for kind in FORMATS for name in kind.old_names)]
