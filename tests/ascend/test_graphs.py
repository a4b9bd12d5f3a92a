"""All graphs of all models, compiled by MindSpore's own Ascend code: nothing is refused or left to the CPU, and what is
launched is in the table."""

import pytest

from tests.ascend.bounds import GE_CHIPS, MOST_COPIED, MOST_LAUNCHES, broken_bounds, is_training, runs_whole_graphs
from tests.ascend.cases import CONTROL, GRAPHS, Case, models_without_tiny
from tests.ascend.rules import CHIPS, broken_rules, read_table

SATURATING_CHIPS = ("Ascend910A",)
# Each kind of graph and each chip once, in minutes; all others with --slow.
QUICK = {
    (Case("step", "darknet53"), "Ascend910B2"),
    (Case("sizes", "yolov3"), "Ascend910A"),
    (Case("mixed", "refinedet_vgg16"), "Ascend910A"),
    (Case("mixed", "cspdarknet53"), "Ascend910B2"),
    (Case("predict", "efficientdet_d0"), "Ascend910B2"),
    (Case("export_uint8", "yolov4"), "Ascend910A"),
}


def parameters():
    for case in GRAPHS:
        for chip in CHIPS:
            marks = () if (case, chip) in QUICK else pytest.mark.slow
            yield pytest.param(case, chip, id=f"{case}-{chip}", marks=marks)


def test_every_model_of_the_table_is_compiled():
    assert not models_without_tiny(), "give these a narrow network in tests/ascend/cases.py"


@pytest.mark.parametrize(("case", "chip"), parameters())
def test_a_graph_is_compiled_for_the_chip(probed, case, chip):
    probe = probed(case, chip)
    assert not probe.lacking, "the stubs lack these"
    assert not probe.refusal
    assert not probe.backoffs, "these are computed by the CPU"
    if runs_whole_graphs(case, chip):
        assert not probe.missing_adapters, "the graph engine does not know these"
    assert probe.facts["device"] == "Ascend" and probe.signatures
    assert not broken_rules(probe.signatures)
    assert not broken_bounds(case, chip, probe)
    # Where numbers saturate, the chip's status alone tells an overflow.
    asks = any("NPUGetFloatStatus" in signature for signature in probe.signatures)
    assert asks == (is_training(case) and chip in SATURATING_CHIPS)
    unknown = sorted(probe.signatures - read_table()[chip])
    assert not unknown, "look at these, then write the table anew: python -m tests.ascend.table"


@pytest.mark.slow
def test_ranks_add_their_gradients_up_in_buckets_during_the_backward_pass(probed):
    """And have no other collective in a step: losses and the wish to stop ride on the last."""
    names = probed(Case("ranks", "yolov3"), "Ascend910B2").steps[-1].names
    sums = [place for place, name in enumerate(names) if name == "AllReduce"]
    gradients = [place for place, name in enumerate(names) if name == "aclnnConvolutionBackward"]
    assert len(sums) > 2 and "AllGather" not in names
    assert sums[0] < gradients[-1] < sums[-1]


def test_bounds_are_of_cases_that_exist():
    assert {*MOST_LAUNCHES, *MOST_COPIED} <= set(GRAPHS)


@pytest.mark.parametrize("chip", CHIPS)
def test_an_operator_that_ascend_lacks_is_caught(probed, chip):
    """Without this, a record in which nothing stands would pass for a good one."""
    probe = probed(CONTROL, chip)
    if chip in GE_CHIPS:
        assert "LSTM" in probe.missing_adapters and probe.refusal
    else:
        assert probe.backoffs == {"LSTM": 1}


@pytest.mark.slow
@pytest.mark.parametrize("chip", CHIPS)
def test_the_table_holds_nothing_old(probed, chip):
    seen = {signature for case in GRAPHS for signature in probed(case, chip).signatures}
    assert not sorted(read_table()[chip] - seen)


@pytest.mark.parametrize(
    "signature",
    [
        "aclop ScatterElements f32 i32 f32 -> f32 axis=1 reduction=add",
        "ge TensorScatterMax i32 i32 i32 -> i32",
        "aclop Sort i32 -> i32 i32 axis=-1",
        "aclnn aclnnMul f64 f64 f64",
    ],
)
def test_what_the_rules_forbid(signature):
    (line,) = broken_rules([signature])
    assert line.startswith(f"{signature}: ")
