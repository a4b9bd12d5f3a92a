"""Annotated object areas (COCO: of the mask), by which AP for small, medium and large objects is computed."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from msdet.data.annotations import RawAnnotations

logger = logging.getLogger(__name__)

# px^2, the upper limit of COCO's area range "all": a larger object would never be scored.
_LARGEST_AREA = 1e10


def read_areas(raw: RawAnnotations, order: np.ndarray) -> np.ndarray | None:
    """Areas (n,) float64 in px^2 of the annotations at the positions `order`, NaN where missing or unusable.

    Returns None if all are NaN. Unusable areas are logged once.
    """
    positions = order.tolist()
    entries = [raw.annotations[position] for position in positions]
    values = np.array([float(entry.area) if is_area(entry.area) else np.nan for entry in entries], np.float64)
    unusable = [position for position, entry in zip(positions, entries, strict=True)
                if entry.area is not None and not is_area(entry.area)]  # fmt: skip
    unknown = int(np.isnan(values).sum())
    if unusable:
        first = f"{raw.place(unusable[0])}: {str(raw.annotations[unusable[0]].area)[:40]!r}"
        logger.warning(
            "%s: %d of %d areas are missing or outside 0 to %g px^2 (%s); using width x height of the box instead",
            *(raw.source, unknown, len(values), _LARGEST_AREA, first),
        )
    elif unknown and raw.format == "coco":
        logger.info(
            "%s: %d of %d areas are missing; using width x height of the box instead", raw.source, unknown, len(values)
        )
    return None if unknown == len(values) else values


def is_area(value: Any) -> bool:
    """True if `value` is a number of px^2 within COCO's area range."""
    return type(value) in (int, float) and 0 <= value <= _LARGEST_AREA
