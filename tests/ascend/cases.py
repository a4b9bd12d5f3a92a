"""What is compiled for Ascend: kinds of graphs, times narrow networks of all models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msdet.config.model_table import model_table

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tiny:
    """A narrow network of a model, with all operators of the full one: it compiles in seconds.

    Attributes:
        model: its name in the model table.
        config: file in configs/, without suffix.
        side: of the input, in px.
        flags: keys that make the network narrow.
        images: in a batch.
    """

    model: str
    config: str
    side: int
    flags: tuple[str, ...]
    images: int = 2


_DARKNET = ("--backbone_shape=4,8,8,16,16,16", "--backbone_layers=1,1,1,1,1")
_TWO = ("--num_classes=2", "--class_names=a,b")
_THREE = ("--num_classes=3", "--class_names=a,b,c")

TINY = {
    "yolov3": Tiny("yolov3", "yolov3", 64, (*_DARKNET, *_TWO)),
    "yolov3_quant": Tiny("yolov3", "yolov3_quant", 64, (*_DARKNET, *_TWO)),
    "yolov4": Tiny("yolov4", "yolov4", 64, (*_DARKNET, *_TWO)),
    "efficientdet_d0": Tiny(
        "efficientdet_d0",
        "efficientdet_d0",
        128,
        (
            "--backbone_shape=8,4,4,8,8,8,8,16",
            # The second stage repeats a block: the residual connection is in no single block.
            "--backbone_layers=1,2,1,1,1,1,1",
            "--pyramid_channels=8",
            "--pyramid_repeats=1",
            "--head_repeats=1",
            "--label_map=dense",
            *_TWO,
        ),
    ),
    "refinedet_vgg16": Tiny(
        "refinedet",
        "refinedet_vgg16_320",
        64,
        ("--backbone_shape=8,8,8,8,8,16", "--backbone_layers=1,1,1,1,1", "--pyramid_channels=8", *_TWO),
    ),
    "refinedet_resnet101": Tiny(
        "refinedet",
        "refinedet_resnet101_320",
        64,
        ("--backbone_shape=8,8,8,8,8", "--backbone_layers=1,1,2,1", "--pyramid_channels=8", *_TWO),
    ),
    "darknet53": Tiny("darknet53", "darknet53_imagenet", 64, (*_DARKNET, *_THREE)),
    "cspdarknet53": Tiny("cspdarknet53", "cspdarknet53_imagenet", 64, (*_DARKNET, *_THREE)),
}
# At full width, depth and size.
FULL = {"yolov3_full": Tiny("yolov3", "yolov3", 416, _TWO, images=8)}
NETWORKS = {**TINY, **FULL}
DETECTORS = tuple(name for name, tiny in TINY.items() if not tiny.model.endswith("darknet53"))
# The others train at one size.
OF_SEVERAL_SIZES = ("yolov3", "yolov3_quant", "yolov4")


@dataclass(frozen=True)
class Case:
    """One graph, or one run.

    Attributes:
        kind: one of
            step: the training step in float32, for one size of images;
            mixed: in mixed precision, with a moving average, clipping and accumulation;
            sizes: for several sizes of images and numbers of boxes;
            predict: network and decoder, as evaluation runs them;
            export: the exported cell for normalised images; export_uint8: for images as they are;
            loop: train.py, for an epoch of three steps;
            ranks: the training step of two processes;
            start: `msdet.runtime.start.start` and a gathering, in the processes that a launcher starts;
            control: an operator that Ascend has no kernel for.
        network: key of `NETWORKS`; of the kind start the launcher: direct, msrun or rank_table.
    """

    kind: str
    network: str = ""

    def __str__(self) -> str:
        return f"{self.kind}-{self.network}" if self.network else self.kind


CONTROL = Case("control")
STARTS = tuple(Case("start", launcher) for launcher in ("direct", "msrun", "rank_table"))
GRAPHS = (
    *(Case(kind, network) for network in TINY for kind in ("step", "predict")),
    # Training for int8 rounds in float32.
    *(Case("mixed", network) for network in TINY if network != "yolov3_quant"),
    *(Case("sizes", network) for network in OF_SEVERAL_SIZES),
    *(Case(kind, network) for network in DETECTORS for kind in ("export", "export_uint8")),
    # Training for int8 starts from a float checkpoint, so that it has no loop of its own here.
    *(Case("loop", network) for network in TINY if network != "yolov3_quant"),
    *(Case("loop", network) for network in FULL),
    Case("ranks", "yolov3"),
)


def models_without_tiny() -> set[str]:
    """The names in the model table that no entry of `TINY` stands for."""
    return set(model_table()) - {tiny.model for tiny in TINY.values()}
