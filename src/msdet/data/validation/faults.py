"""Kinds of faults of annotations. Texts that name one are made from it, never the other way round."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Fault(Enum):
    """What can be wrong with an annotation; the value is the kind by which reports group findings."""

    LACKS_KEY = "annotation lacks a key"
    BROKEN = "broken annotation"
    UNKNOWN_IMAGE = "annotation of an unknown image"
    UNKNOWN_CATEGORY = "annotation of an unknown category"
    UNKNOWN_CLASS = "unknown class"
    BAD_ISCROWD = "bad iscrowd"
    NO_NUMBERS = "box without four numbers"
    NEGATIVE_SIZE = "box of negative size"
    NO_AREA = "box of zero area"
    OUTSIDE = "box outside its image"


class Described(NamedTuple):
    """A fault, and a sentence about the annotation that has it."""

    fault: Fault
    text: str


class BadBox(NamedTuple):
    """A box that cannot be used: its position among the annotations, its fault, a sentence about it."""

    position: int
    fault: Fault
    text: str
