"""How much one step of a narrow network may ask of the device, besides its operators: launches, copies and waits.

A step is looked at once it is steady: the first one also uploads weights and constants.
"""

from __future__ import annotations

from tests.ascend.cases import Case
from tests.ascend.probe import Probe, Step

# Of the networks in `cases.TINY`, where each operator is launched by itself (Ascend910B2): what was counted, and 5 %
# more. A form of a layer that suits the CPU and not the chip shows here first. Lower a number when a step gets lighter.
GE_CHIPS = ("Ascend910A",)
# Weights, float32, of YOLOv3 with two classes.
_FULL_WEIGHTS = 4 * 61_529_119
MOST_COPIED = {Case("loop", "yolov3_full"): _FULL_WEIGHTS}
MOST_LAUNCHES = {
    # At full width and depth: 735 are convolutions, batch norms, activations and updates, forward and back.
    Case("loop", "yolov3_full"): 1000,
    Case("step", "yolov3"): 704,
    Case("step", "yolov4"): 1580,
    Case("step", "efficientdet_d0"): 2442,
    Case("step", "refinedet_vgg16"): 811,
    Case("step", "refinedet_resnet101"): 963,
    Case("step", "darknet53"): 346,
    Case("step", "cspdarknet53"): 651,
}
# A step of training: controls, and what the loss cell takes. Others have two inputs.
MOST_UPLOADS = 8
# A step of training reports one vector.
MOST_READINGS = 1
# For the report, and to spare. Where graphs run whole, and outside of training, the host waits after each upload.
MOST_WAITS = 4
MOST_WAITS_OF_UPLOADS = 12


def is_training(case: Case) -> bool:
    """Whether the steps of a case are those of a training."""
    return case.kind in ("step", "mixed", "sizes", "loop", "ranks")


def runs_whole_graphs(case: Case, chip: str) -> bool:
    """Whether the graph engine is given whole graphs, instead of operators: see src/msdet/runtime/device.py."""
    return chip in GE_CHIPS or case.network == "yolov3_quant"


def steady_step(case: Case, probe: Probe) -> Step:
    """The step that is looked at: of train.py the second, as the last one saves a checkpoint, else the last."""
    return probe.steps[1 if case.kind == "loop" else -1]


def broken_bounds(case: Case, chip: str, probe: Probe) -> list[str]:
    """A line for each bound that a case exceeds.

    Args:
        case: that was probed.
        chip: that it was probed for.
        probe: the result, of at least two steps.
    """
    step = steady_step(case, probe)
    by_graph_engine = runs_whole_graphs(case, chip)
    single = sum(step.launches[kind] for kind in ("aclop", "aclnn", "rt"))
    waits = MOST_WAITS if is_training(case) and not by_graph_engine else MOST_WAITS_OF_UPLOADS
    most = {
        "runs of a graph": (step.launches["ge_run"], int(by_graph_engine)),
        "launches": (single, 0 if by_graph_engine else MOST_LAUNCHES.get(case, single)),
        "copies to the device": (step.copies["H2D"], MOST_UPLOADS),
        "copies to the host": (step.copies["D2H"], MOST_READINGS if is_training(case) else 0),
        "waits for a stream": (step.waits["stream"], waits),
        "bytes copied within the device": (step.copied_bytes["D2D"], MOST_COPIED.get(case, step.copied_bytes["D2D"])),
    }
    return [f"{count} {what}, at most {limit} are due" for what, (count, limit) in most.items() if count > limit]
