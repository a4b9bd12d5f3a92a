"""Recognises checkpoints of MindSpore's old model zoo by their tensor names, and tells how to import them."""

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
        title: name in messages.
        patterns: regular expressions; each matches some tensor name of every such checkpoint.
        model: the model that accepts its weights; empty if none does.
        config: the config file to import them with.
        head: regular expression of the name of the tensor whose rows depend on the number of classes.
        anchors, extra: that tensor has `anchors * (classes + extra)` rows.
        num_classes: of the config file.
        refusal: why no model accepts its weights, and what to do instead; empty if one does.
    """

    title: str
    patterns: tuple[str, ...]
    model: str = ""
    config: str = ""
    head: str = ""
    anchors: int = 1
    extra: int = 0
    num_classes: int = 0
    refusal: str = ""


_YOLO_HEAD = r"feature_map\.backblock\d\.conv6\.weight$"
_CLASSIFIER_HEAD = r"(^|\.)fc\.weight$"
# The convolutions of CSPDarkNet53 are numbered up to 27, those of DarkNet53 up to 5.
_CSP = r"conv27\.0\.weight$"

# The first match counts.
_LAYOUTS = (
    OldLayout(
        "network with the fake quantization of mindspore.compression.quant, which was removed from MindSpore",
        (r"fake_quant|minq|maxq|quant_min|quant_max|batchnorm_fold|feature_map\..*\.batchnorm\.",),
        refusal="its layers are those of that package, and it quantizes at other places of the network. "
        "Import the float checkpoint that it was trained from, and repeat the quantization-aware training:\n"
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
        "its anchors differ, and its detections do not start from refined anchors. Train from scratch, or from "
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
    """The network of the old zoo with these tensor names (with or without prefixes of wrapper cells), or None."""
    lines = "\n".join(names)
    matching = (old for old in _LAYOUTS if all(re.search(pattern, lines, re.MULTILINE) for pattern in old.patterns))
    return next(matching, None)


def reject_old_checkpoint(source: Path, tensors: Mapping[str, _Shaped], model: str = "") -> None:
    """Rejects a checkpoint of the old zoo; the message has the command to import it, or why that is not possible.

    Args:
        source: the file.
        tensors: tensor name -> tensor.
        model: the model whose old checkpoints are accepted; empty: none are.

    Raises:
        UserError: the checkpoint is from the old zoo, and not of this model.
    """
    old = find_old_layout(tensors)
    if old is None:
        return
    subject = f"{source} is a checkpoint of the old model zoo, of its {old.title}"
    if old.refusal:
        raise UserError(f"{subject}. It cannot be used: {old.refusal}")
    if old.model != model:
        command = _import_command(old, source, tensors)
        raise UserError(f"{subject}. Import it, and use the file that this writes:\n  {command}")


def _import_command(old: OldLayout, source: Path, tensors: Mapping[str, _Shaped]) -> str:
    """The command line that imports a checkpoint."""
    words = ["python", "-m", "msdet", "import", "--config", old.config]
    rows = next((value.shape[0] for name, value in tensors.items() if re.search(old.head, name)), 0)
    count = rows // old.anchors - old.extra
    if not rows:
        words += ["--partial", "backbone"]
    elif count != old.num_classes:
        words += ["--num_classes", str(count)]
    words += ["--source", str(source), "--output", str(source.with_name(f"{source.stem}_imported.ckpt"))]
    return shlex.join(words)
