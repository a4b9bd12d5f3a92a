"""Areas of objects as annotations tell them: of the mask, where COCO does. Scores by size go by them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from msdet.data.annotations import RawAnnotations

logger = logging.getLogger(__name__)

# COCO's range of all sizes, px^2: an object beyond it would never be asked for.
_LARGEST_AREA = 1e10


def read_areas(content: RawAnnotations, order: np.ndarray) -> np.ndarray | None:
    """float64 areas in px^2 of the annotations at `order`, NaN where one tells none that can be used; None if none of
    all does. Which do not is told once."""
    positions = order.tolist()
    entries = [content.annotations[position] for position in positions]
    values = np.array([float(entry.area) if is_area(entry.area) else np.nan for entry in entries], np.float64)
    unusable = [position for position, entry in zip(positions, entries, strict=True)
                if entry.area is not None and not is_area(entry.area)]  # fmt: skip
    unknown = int(np.isnan(values).sum())
    if unusable:
        first = f"{content.place(unusable[0])}: {str(content.annotations[unusable[0]].area)[:40]!r}"
        logger.warning(
            "%s: %d of %d areas are missing or no number of px from 0 to %g (%s); width x height of the box counts",
            *(content.source, unknown, len(values), _LARGEST_AREA, first),
        )
    elif unknown and content.format == "coco":
        logger.info(
            "%s: %d of %d areas are missing; width x height of the box counts", content.source, unknown, len(values)
        )
    return None if unknown == len(values) else values


def is_area(value: Any) -> bool:
    """Whether an area of an annotation can be used: a number of px^2 that scores by size know."""
    return type(value) in (int, float) and 0 <= value <= _LARGEST_AREA
