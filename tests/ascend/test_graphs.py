"""All graphs of all models compile with the Ascend code of MindSpore, without errors and fallbacks to the CPU, and only
with operators in the table."""

import pytest

from tests.ascend.bounds import (
    GE_CHIPS,
    MAX_COPIED_BYTES,
    MAX_LAUNCHES,
    exceeded_bounds,
    is_training,
    runs_whole_graphs,
)
from tests.ascend.cases import CONTROL, GRAPHS, Case
from tests.ascend.rules import CHIPS, read_table, violated_rules

SATURATING_CHIPS = ("Ascend910A",)
# Each kind of graph and each chip once, which takes minutes; all others with --slow.
QUICK = {
    (Case("step", "darknet53"), "Ascend910B2"),
    (Case("sizes", "yolov3"), "Ascend910A"),
    (Case("mixed", "refinedet"), "Ascend910A"),
    (Case("mixed", "cspdarknet53"), "Ascend910B2"),
    (Case("predict", "efficientdet_d0"), "Ascend910B2"),
    (Case("export_uint8", "yolov4"), "Ascend910A"),
}


def parameters():
    for case in GRAPHS:
        for chip in CHIPS:
            marks = () if (case, chip) in QUICK else pytest.mark.slow
            yield pytest.param(case, chip, id=f"{case}-{chip}", marks=marks)


@pytest.mark.parametrize(("case", "chip"), parameters())
def test_a_graph_is_compiled_for_the_chip(probed, case, chip):
    probe = probed(case, chip)
    assert not probe.missing_symbols, "symbols missing in the stubs"
    assert not probe.error
    assert not probe.backoffs, "operators that fall back to the CPU"
    if runs_whole_graphs(case, chip):
        assert not probe.missing_adapters, "operators unknown to the graph engine"
    assert probe.facts["device"] == "Ascend" and probe.signatures
    assert not violated_rules(probe.signatures)
    assert not exceeded_bounds(case, chip, probe)
    # On chips that saturate, only the status of the chip shows an overflow.
    reads_status = any("NPUGetFloatStatus" in signature for signature in probe.signatures)
    assert reads_status == (is_training(case) and chip in SATURATING_CHIPS)
    unknown = sorted(probe.signatures - read_table()[chip])
    assert not unknown, "review these operators, then regenerate the table: python -m tests.ascend.table"


@pytest.mark.slow
def test_gradients_are_reduced_in_buckets_during_the_backward_pass(probed):
    """There is no other collective operation in a step: losses and stop requests are part of the last bucket."""
    names = probed(Case("ranks", "yolov3"), "Ascend910B2").steps[-1].names
    sums = [place for place, name in enumerate(names) if name == "AllReduce"]
    gradients = [place for place, name in enumerate(names) if name == "aclnnConvolutionBackward"]
    assert len(sums) > 2 and "AllGather" not in names
    assert sums[0] < gradients[-1] < sums[-1]


def test_bounds_refer_to_existing_cases():
    assert {*MAX_LAUNCHES, *MAX_COPIED_BYTES} <= set(GRAPHS)


@pytest.mark.parametrize("chip", CHIPS)
def test_an_operator_without_kernel_is_detected(probed, chip):
    """Otherwise an empty record would pass all tests."""
    probe = probed(CONTROL, chip)
    if chip in GE_CHIPS:
        assert "LSTM" in probe.missing_adapters and probe.error
    else:
        assert probe.backoffs == {"LSTM": 1}


@pytest.mark.slow
@pytest.mark.parametrize("chip", CHIPS)
def test_the_table_has_no_outdated_entries(probed, chip):
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
def test_forbidden_operators(signature):
    (line,) = violated_rules([signature])
    assert line.startswith(f"{signature}: ")
