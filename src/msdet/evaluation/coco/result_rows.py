"""The detections of a COCO result file as one array, read by a compiled decoder.

A file of 180,000 detections takes a fifth of a second; record by record in Python it takes longer than their scoring.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from msdet.evaluation.coco.truth import GroundTruth

_PIECE = 1 << 24  # bytes read at once
_BLANKS = b" \t\r\n"
_Side = Annotated[float, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct, gc=False):
    """What `src/msdet/evaluation/detections.py` asks of a record."""

    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, _Side, _Side]
    score: float


class _Strange(Exception):
    """Something that only the reader with words for it may judge."""


def read_rows(path: Path, truth: GroundTruth) -> np.ndarray | None:
    """(n,7) float64 [image number, x, y, w, h, score, category number] of the records of a file that are scored.

    Returns:
        None where anything is wrong, or needs a word to the user: a key, value, image or category that should not be
        there, an end that is missing. `detection_rows` reads such a file and says what it is.
    """
    images = {image_id: number for number, image_id in enumerate(truth.image_ids, 1)}
    categories = {category_id: number for number, category_id in enumerate(truth.category_ids, 1)}
    parts = [np.zeros((0, 7))]
    try:
        for records in _pieces(path):
            image = _numbers([record.image_id for record in records], images, truth.other_images)
            category = _numbers([record.category_id for record in records], categories, truth.other_categories)
            boxes = np.array([record.bbox for record in records], np.float64).reshape(-1, 4)
            scores = np.array([record.score for record in records], np.float64)
            scored = (image > 0) & (category > 0)
            parts.append(np.column_stack([image, boxes, scores, category])[scored])
    except (OSError, msgspec.MsgspecError, _Strange):
        return None
    return np.concatenate(parts)


def _numbers(ids: list[int | str], known: dict[int | str, int], others: frozenset[int | str]) -> np.ndarray:
    """The number of each id, 0 for those that are not scored."""
    numbers = np.array([known.get(identifier, 0) for identifier in ids], np.int64)
    if any(ids[position] not in others for position in np.flatnonzero(numbers == 0)):
        raise _Strange
    return numbers


def _pieces(path: Path) -> Iterator[list[_Record]]:
    """The records of a JSON array, some megabytes at a time; a piece ends behind a closing brace."""
    decode = msgspec.json.Decoder(list[_Record]).decode
    with path.open("rb") as file:
        rest, first = file.read(_PIECE).lstrip(_BLANKS), True
        if rest[:1] != b"[":
            raise _Strange
        rest = rest[1:]
        while True:
            end = rest.rfind(b"}") + 1
            if end:
                piece = rest[:end].lstrip(_BLANKS)
                if not first and piece[:1] != b",":
                    raise _Strange
                yield decode(b"[%b]" % (piece if first else piece[1:]))
                rest, first = rest[end:], False
            more = file.read(_PIECE)
            if not more:
                break
            if len(rest) > _PIECE:
                raise _Strange
            rest += more
    if rest.strip(_BLANKS) != b"]":
        raise _Strange
