"""Operators that no graph may use on Ascend, with sources, and the table of all operators in use."""

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
    """A forbidden kind of operator.

    Attributes:
        pattern: regular expression to search for in a signature.
        source: reason and source.
    """

    pattern: str
    source: str


# Quotations are from the docstrings of MindSpore 2.10.
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
        "CANN, Ascend C, Sort32: the instruction sorts only half and float; according to "
        "mindspore/ops/_op_impl/aicpu/sort.py integers are sorted by the control CPU of the chip",
    ),
    Rule(
        r"\bf64\b",
        'mindspore.ops.L2Normalize and others: "On Ascend, input data type of float64 is currently not supported"',
    ),
    Rule(r"\bc(64|128)\b", "complex numbers are computed by the control CPU of the chip"),
)


def violated_rules(signatures: Iterable[str]) -> list[str]:
    """One line per forbidden signature."""
    return [
        f"{signature}: {rule.source}"
        for signature in sorted(signatures)
        for rule in RULES
        if re.search(rule.pattern, signature)
    ]


def read_table() -> Mapping[str, frozenset[str]]:
    """Chip -> signatures in use."""
    return {chip: frozenset(lines) for chip, lines in json.loads(TABLE.read_text()).items()}


def write_table(signatures: Mapping[str, Iterable[str]]) -> None:
    """Writes the table for `read_table`."""
    TABLE.write_text(json.dumps({chip: sorted(lines) for chip, lines in signatures.items()}, indent=1) + "\n")
