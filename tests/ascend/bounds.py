"""How much one step of a narrow network may ask of the device, besides its operators: launches, copies and waits.

A step is looked at once it is steady: the first one also uploads weights and constants.
"""

from __future__ import annotations

from tests.ascend.cases import Case
from tests.ascend.probe import Probe, Step

# Of the networks in `cases.TINY`, where each operator is launched by itself (Ascend910B2): what was counted, and 5 %
# more. A form of a layer that suits the CPU and not the chip shows here first. Lower a number when a step gets lighter.
MOST_LAUNCHES = {
    Case("step", "yolov3"): 1640,
    Case("step", "yolov3_quant"): 4290,
    Case("step", "yolov4"): 3330,
    Case("step", "efficientdet_d0"): 4720,
    Case("step", "refinedet_vgg16"): 930,
    Case("step", "refinedet_resnet101"): 1530,
    Case("step", "darknet53"): 570,
    Case("step", "cspdarknet53"): 1650,
}
# Inputs of a step go up one by one, and on the graph engine four scalars as well.
MOST_UPLOADS = 8
# The host waits after each upload. The child itself waits for the device, not for a stream.
MOST_WAITS = 12
# train.py reads each loss, the norm, the loss scale and whether the step was carried out.
MOST_READINGS_OF_LOOP = 8
MOST_WAITS_OF_LOOP = 20


def steady_step(case: Case, probe: Probe) -> Step:
    """The step that is looked at: of train.py the second, as the last one saves a checkpoint, else the last."""
    return probe.steps[1 if case.kind == "loop" else -1]


def broken_bounds(case: Case, probe: Probe, by_graph_engine: bool) -> list[str]:
    """A line for each bound that a case exceeds.

    Args:
        case: that was probed.
        probe: the result, of at least two steps.
        by_graph_engine: whether the chip is given whole graphs instead of operators.
    """
    step = steady_step(case, probe)
    is_loop = case.kind == "loop"
    single = sum(step.launches[kind] for kind in ("aclop", "aclnn", "rt"))
    most = {
        "runs of a graph": (step.launches["ge_run"], int(by_graph_engine)),
        "launches": (single, 0 if by_graph_engine else MOST_LAUNCHES.get(case, single)),
        "copies to the device": (step.copies["H2D"], MOST_UPLOADS),
        "copies to the host": (step.copies["D2H"], MOST_READINGS_OF_LOOP if is_loop else 0),
        "waits for a stream": (step.waits["stream"], MOST_WAITS_OF_LOOP if is_loop else MOST_WAITS),
    }
    return [f"{count} {what}, at most {limit} are due" for what, (count, limit) in most.items() if count > limit]
