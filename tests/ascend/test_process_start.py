"""Processes started by each launcher initialise the Ascend code of MindSpore and communicate with each other."""

import pytest

from tests.ascend.cases import START_CASES, Case
from tests.ascend.rules import CHIPS

QUICK = {(Case("start", "direct"), "Ascend910A"), (Case("start", "rank_table"), "Ascend910B2")}


@pytest.mark.parametrize(
    ("case", "chip"),
    [
        pytest.param(case, chip, id=f"{case}-{chip}", marks=() if (case, chip) in QUICK else pytest.mark.slow)
        for case in START_CASES
        for chip in CHIPS
    ],
)
def test_all_ranks_start(probed, case, chip):
    probe = probed(case, chip)
    assert not probe.error and not probe.missing_symbols
    ranks = 1 if case.network == "direct" else 2
    assert probe.facts == {"group_size": ranks, "gathered": [f"rank {rank}" for rank in range(ranks)]}
