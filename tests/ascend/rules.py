"""What no graph may ask of an Ascend, and where that is said; and the table of all that graphs ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("signatures.json")
CHIPS = ("Ascend910A", "Ascend910B2")


@dataclass(frozen=True)
class Rule:
    """Something that is not to be launched.

    Attributes:
        pattern: regular expression that is searched for in a signature.
        source: why, and where it is said.
    """

    pattern: str
    source: str


# Docstrings are those of MindSpore 2.10.
RULES = (
    Rule(
        r"ScatterElements .*reduction=(?!none)",
        'mindspore.ops.tensor_scatter_elements: "On Ascend, the reduction only support set to none for now"',
    ),
    Rule(
        r"\bTensorScatter(Max|Min|Sub|Mul|Div)\b",
        'mindspore.ops.tensor_scatter_max and others: deprecated from 2.9, "Supported Platforms: Deprecated"',
    ),
    Rule(
        r"\b(TensorScatterAdd|ScatterNd)\b",
        'mindspore.ops.tensor_scatter_add, scatter_nd: "This interface is deprecated and will be removed after 2.9.0"',
    ),
    Rule(
        r"\b(aclnn)?Sort [iu]\d",
        "CANN, Ascend C, Sort32: the instruction sorts half and float alone; mindspore/ops/_op_impl/aicpu/sort.py "
        "has integers sorted by the control CPU of the chip",
    ),
    Rule(
        r"\bf64\b",
        'mindspore.ops.L2Normalize and others: "On Ascend, input data type of float64 is currently not supported"',
    ),
    Rule(r"\bc(64|128)\b", "complex numbers run on the control CPU of the chip: no unit of Ascend computes them"),
)


def broken_rules(signatures: Iterable[str]) -> list[str]:
    """A line for each signature that a rule forbids."""
    return [
        f"{signature}: {rule.source}"
        for signature in sorted(signatures)
        for rule in RULES
        if re.search(rule.pattern, signature)
    ]


def read_table() -> Mapping[str, frozenset[str]]:
    """Chip -> the signatures that its graphs may have."""
    return {chip: frozenset(lines) for chip, lines in json.loads(TABLE.read_text()).items()}


def write_table(signatures: Mapping[str, Iterable[str]]) -> None:
    """Writes what `read_table` reads."""
    TABLE.write_text(json.dumps({chip: sorted(lines) for chip, lines in signatures.items()}, indent=1) + "\n")
