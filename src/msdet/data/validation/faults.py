"""Kinds of annotation errors. Messages are made from them, never the other way round."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Fault(Enum):
    """An annotation error; the value is the kind by which reports group findings."""

    LACKS_KEY = "annotation lacks a key"
    MALFORMED = "malformed annotation"
    UNKNOWN_IMAGE = "annotation of an unknown image"
    UNKNOWN_CATEGORY = "annotation of an unknown category"
    UNKNOWN_CLASS = "unknown class"
    BAD_ISCROWD = "bad iscrowd"
    NOT_NUMERIC = "box without four numbers"
    NEGATIVE_SIZE = "box of negative size"
    NO_AREA = "box of zero area"
    OUTSIDE = "box outside its image"


class DescribedFault(NamedTuple):
    """A fault, and a message about the annotation that has it."""

    fault: Fault
    text: str


class BadBox(NamedTuple):
    """An invalid box: its position among the annotations, its fault, and a message."""

    position: int
    fault: Fault
    text: str
