"""The training steps that the doctor compares."""

from __future__ import annotations

import pytest

from msdet.tools.doctor.few_steps import losses_on


@pytest.mark.slow
def test_comparison_steps_reduce_the_loss(graph_mode):
    losses = losses_on("CPU")
    assert len(losses) == 3 and losses[2] < losses[0]
