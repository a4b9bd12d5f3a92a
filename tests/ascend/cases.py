"""The cases that are compiled for Ascend: kinds of graphs with narrow networks of all models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.narrow import NarrowNetwork, narrow_networks

ROOT = Path(__file__).resolve().parents[2]


TINY = narrow_networks()
# At full width, depth and size.
FULL = {"yolov3_full": NarrowNetwork("yolov3", "yolov3", 416, ("--num_classes=2", "--class_names=a,b"), batch_size=8)}
NETWORKS = {**TINY, **FULL}
DETECTORS = tuple(name for name, tiny in TINY.items() if not tiny.model.endswith("darknet53"))
# The other networks train at one size.
MULTI_SCALE = ("yolov3", "yolov3_quant", "yolov4")


@dataclass(frozen=True)
class Case:
    """One graph or one run.

    Attributes:
        kind: one of
            step: the training step in float32, for one image size;
            mixed: the training step in mixed precision, with moving average, clipping and accumulation;
            sizes: the training step for several image sizes and numbers of boxes;
            predict: network and decoder, as in evaluation;
            export: the exported cell for normalised images; export_uint8: for uint8 images;
            loop: train.py, for an epoch of three steps;
            ranks: the training step of two processes;
            start: `msdet.runtime.start.start` and a gather, in the processes started by a launcher;
            control: an operator without a kernel for Ascend.
        network: key of `NETWORKS`; for the kind start the launcher: direct, msrun or rank_table.
    """

    kind: str
    network: str = ""

    def __str__(self) -> str:
        return f"{self.kind}-{self.network}" if self.network else self.kind


CONTROL = Case("control")
START_CASES = tuple(Case("start", launcher) for launcher in ("direct", "msrun", "rank_table"))
GRAPHS = (
    *(Case(kind, network) for network in TINY for kind in ("step", "predict")),
    # Quantization-aware training runs in float32.
    *(Case("mixed", network) for network in TINY if network != "yolov3_quant"),
    *(Case("sizes", network) for network in MULTI_SCALE),
    *(Case(kind, network) for network in DETECTORS for kind in ("export", "export_uint8")),
    # Quantization-aware training needs a float checkpoint to start from, so it is left to the other cases.
    *(Case("loop", network) for network in TINY if network != "yolov3_quant"),
    *(Case("loop", network) for network in FULL),
    Case("ranks", "yolov3"),
)
