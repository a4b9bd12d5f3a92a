"""Checkpoints of MindSpore's old model zoo: recognised by the names of their tensors, answered with what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msdet.errors import UserError


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class OldLayout:
    """A network of the old zoo.

    Attributes:
        title: what messages call it.
        marks: regular expressions; each is found in some name of every such file.
        model: that takes its weights; empty if none does.
        config: the configuration to import them with.
        head: regular expression of the name of the tensor that has rows for each class.
        anchors, extra: it has `anchors * (classes + extra)` rows.
        num_classes: of the configuration.
        refusal: why no model takes its weights, and what to do; else empty.
    """

    title: str
    marks: tuple[str, ...]
    model: str = ""
    config: str = ""
    head: str = ""
    anchors: int = 1
    extra: int = 0
    num_classes: int = 0
    refusal: str = ""


_YOLO_HEAD = r"feature_map\.backblock\d\.conv6\.weight$"
_CLASSIFIER_HEAD = r"(^|\.)fc\.weight$"
# CSPDarkNet53 counts its convolutions to 27, DarkNet53 to 5.
_CSP = r"conv27\.0\.weight$"

# The first that fits counts.
_LAYOUTS = (
    OldLayout(
        "network with the fake quantization of mindspore.compression.quant, which MindSpore has removed",
        (r"fake_quant|minq|maxq|quant_min|quant_max|batchnorm_fold|feature_map\..*\.batchnorm\.",),
        refusal="its layers are those of that package, and its ranges belong to other places of the network than here. "
        "Import the float checkpoint that it was trained from, and train for int8 again:\n"
        "  msdet import --config configs/yolov3.yaml --source FLOAT.ckpt --output yolov3.ckpt\n"
        "  python train.py --config configs/yolov3_quant.yaml --data_dir DIR --pretrained yolov3.ckpt",
    ),
    OldLayout(
        "YOLOv4", (r"(^|\.)feature_map\.", rf"{_CSP}|feature_map\.backblock3\."), "yolov4", "configs/yolov4.yaml",
        _YOLO_HEAD, anchors=3, extra=5, num_classes=80,
    ),
    OldLayout(
        "YOLOv3", (r"(^|\.)feature_map\.back(bone|block\d)\.",), "yolov3", "configs/yolov3.yaml",
        _YOLO_HEAD, anchors=3, extra=5, num_classes=80,
    ),
    OldLayout(
        "EfficientDet-D0", (r"(^|\.)backbone_net\.model\.",), "efficientdet_d0", "configs/efficientdet_d0.yaml",
        r"(^|\.)classifier\.header\.pointwise_conv\.weight$", anchors=9, num_classes=90,
    ),
    OldLayout(
        "RefineDet",
        (r"(^|\.)(arm|odm)\.(.*\.)?multi_(loc|cls)_layers\.|(^|\.)tcb\.tcb\d\.",),
        refusal="it is another network: its heads are depthwise-separable with batch norm, its VGG16 has no biases, "
        "its anchors are other ones, and its detections do not start from refined anchors. Train anew, or start from "
        "ImageNet weights with --pretrained_backbone",
    ),
    OldLayout(
        "CSPDarkNet53", (rf"backbone\.{_CSP}",), "cspdarknet53", "configs/cspdarknet53_imagenet.yaml",
        _CLASSIFIER_HEAD, num_classes=1000,
    ),
    OldLayout(
        "DarkNet53", (r"(^|\.)conv0\.0\.weight$", r"(^|\.)layer5\.0\.conv2\.0\.weight$"), "darknet53",
        "configs/darknet53_imagenet.yaml", _CLASSIFIER_HEAD, num_classes=1000,
    ),
)  # fmt: skip


def find_old_layout(names: Iterable[str]) -> OldLayout | None:
    """The network of the old zoo whose tensors have these names, with or without prefixes of wrappers."""
    lines = "\n".join(names)
    fitting = (old for old in _LAYOUTS if all(re.search(mark, lines, re.MULTILINE) for mark in old.marks))
    return next(fitting, None)


def reject_old_checkpoint(source: Path, tensors: Mapping[str, _Shaped], model: str = "") -> None:
    """Refuses a checkpoint of the old zoo with the command that imports it, or with the reason why none can.

    Args:
        source: the file.
        tensors: its content.
        model: whose old weights are welcome; empty: none are.

    Raises:
        UserError: the file is of the old zoo, and not of this model.
    """
    old = find_old_layout(tensors)
    if old is None:
        return
    whose = f"{source} is a checkpoint of the old model zoo, of its {old.title}"
    if old.refusal:
        raise UserError(f"{whose}. It cannot be used: {old.refusal}")
    if old.model != model:
        raise UserError(f"{whose}. Import it, and give the file that this writes:\n  {_command(old, source, tensors)}")


def _command(old: OldLayout, source: Path, tensors: Mapping[str, _Shaped]) -> str:
    """What to type to import a checkpoint."""
    words = ["python", "-m", "msdet", "import", "--config", old.config]
    rows = next((value.shape[0] for name, value in tensors.items() if re.search(old.head, name)), 0)
    count = rows // old.anchors - old.extra
    if not rows:
        words += ["--partial", "backbone"]
    elif count != old.num_classes:
        words += ["--num_classes", str(count)]
    words += ["--source", str(source), "--output", str(source.with_name(f"{source.stem}_imported.ckpt"))]
    return shlex.join(words)
