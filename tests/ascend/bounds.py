"""Limits for the launches, copies and waits of one step of a narrow network.

They apply to a steady step: the first one also uploads weights and constants.
"""

from __future__ import annotations

from tests.ascend.cases import Case
from tests.ascend.probe import Probe, Step

# Chips on which the graph engine runs whole graphs.
GE_CHIPS = ("Ascend910A",)
# Bytes of the float32 weights of YOLOv3 with two classes.
_FULL_WEIGHTS = 4 * 61_529_119
MAX_COPIED_BYTES = {Case("loop", "yolov3_full"): _FULL_WEIGHTS}
# Of narrow networks, where each operator is launched on its own (Ascend910B2): the measured number plus 5 %. A variant
# of a layer that suits the CPU but not the chip shows here first. Lower a number when a step gets lighter.
MAX_LAUNCHES = {
    # At full width and depth: 735 are convolutions, batch norms, activations and updates, forward and backward.
    Case("loop", "yolov3_full"): 1000,
    Case("step", "yolov3"): 704,
    Case("step", "yolov4"): 1580,
    Case("step", "efficientdet_d0"): 2442,
    Case("step", "refinedet"): 811,
    Case("step", "refinedet_resnet101"): 963,
    Case("step", "darknet53"): 346,
    Case("step", "cspdarknet53"): 651,
}
# A training step: controls and the inputs of the loss cell. Other cases have two inputs.
MAX_UPLOADS = 8
# A training step returns one vector.
MAX_DOWNLOADS = 1
# For the result, with a margin. With whole graphs, and outside of training, the host waits after each upload.
MAX_WAITS = 4
MAX_WAITS_WITH_UPLOADS = 12


def is_training(case: Case) -> bool:
    """Whether a case runs training steps."""
    return case.kind in ("step", "mixed", "sizes", "loop", "ranks")


def runs_whole_graphs(case: Case, chip: str) -> bool:
    """Whether whole graphs are given to the graph engine instead of operators: see src/msdet/runtime/device.py."""
    return chip in GE_CHIPS or case.network == "yolov3_quant"


def steady_step(case: Case, probe: Probe) -> Step:
    """The step to check: the second of train.py, since its last one saves a checkpoint; else the last."""
    return probe.steps[1 if case.kind == "loop" else -1]


def exceeded_bounds(case: Case, chip: str, probe: Probe) -> list[str]:
    """One line per bound that a case exceeds.

    Args:
        case: the case.
        chip: name of the chip.
        probe: its result, with at least two steps.
    """
    step = steady_step(case, probe)
    by_graph_engine = runs_whole_graphs(case, chip)
    single = sum(step.launches[kind] for kind in ("aclop", "aclnn", "rt"))
    waits = MAX_WAITS if is_training(case) and not by_graph_engine else MAX_WAITS_WITH_UPLOADS
    limits = {
        "runs of a graph": (step.launches["ge_run"], int(by_graph_engine)),
        "launches": (single, 0 if by_graph_engine else MAX_LAUNCHES.get(case, single)),
        "copies to the device": (step.copies["H2D"], MAX_UPLOADS),
        "copies to the host": (step.copies["D2H"], MAX_DOWNLOADS if is_training(case) else 0),
        "waits for a stream": (step.waits["stream"], waits),
        "bytes copied within the device": (
            step.copied_bytes["D2D"],
            MAX_COPIED_BYTES.get(case, step.copied_bytes["D2D"]),
        ),
    }
    return [f"{count} {what}, at most {limit} are allowed" for what, (count, limit) in limits.items() if count > limit]
