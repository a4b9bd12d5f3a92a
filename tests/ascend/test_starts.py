"""Processes that start as each launcher starts them, join through MindSpore's own Ascend code and hear each other."""

import pytest

from tests.ascend.cases import STARTS, Case
from tests.ascend.rules import CHIPS

QUICK = {(Case("start", "direct"), "Ascend910A"), (Case("start", "rank_table"), "Ascend910B2")}


@pytest.mark.parametrize(
    ("case", "chip"),
    [
        pytest.param(case, chip, id=f"{case}-{chip}", marks=() if (case, chip) in QUICK else pytest.mark.slow)
        for case in STARTS
        for chip in CHIPS
    ],
)
def test_all_ranks_start(probed, case, chip):
    probe = probed(case, chip)
    assert not probe.refusal and not probe.lacking
    ranks = 1 if case.network == "direct" else 2
    assert probe.facts == {"group_size": ranks, "gathered": [f"rank {rank}" for rank in range(ranks)]}
