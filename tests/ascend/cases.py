"""The cases that are compiled for Ascend: kinds of graphs with narrow networks of all models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msdet.config.model_table import model_table

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tiny:
    """A narrow network of a model with all operators of the full one, which compiles in seconds.

    Attributes:
        model: its name in the model table.
        config: file in configs/, without suffix.
        size: of the square input, in px.
        flags: keys that make the network narrow.
        batch_size: number of images.
    """

    model: str
    config: str
    size: int
    flags: tuple[str, ...]
    batch_size: int = 2


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
            # The second stage has two blocks, since only repeated blocks have a residual connection.
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
FULL = {"yolov3_full": Tiny("yolov3", "yolov3", 416, _TWO, batch_size=8)}
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


def models_without_narrow_network() -> set[str]:
    """Models of the model table without an entry in `TINY`."""
    return set(model_table()) - {tiny.model for tiny in TINY.values()}
