"""Names of the tensors of EfficientDet-D0 in files of other programs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import ClassVar

from msdet.models.efficientdet_d0.network import EfficientDet
from msdet.models.weight_names import NamedSource

Names = Iterator[tuple[str, str]]

# Settings that the weights were trained with.
_NORM = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "bn_eps": 1e-3}
_SETTINGS = {
    **_NORM,
    "resize": "letterbox_top_left",
    "interpolation": "linear",
    "label_map": "coco_id_minus_1",
}

# Tensors of a batch norm: name in PyTorch, name in MindSpore.
_TORCH_NORM = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)
_ZOO_NORM = tuple((name, name) for _, name in _TORCH_NORM)
_WEIGHT, _BOTH = ("weight",), ("weight", "bias")

# Nodes of the pyramid: name here; in the port of zylo117 names of convolution and input weights.
_NODES = (
    ("p6_down", "conv6_up", "p6_w1"), ("p5_down", "conv5_up", "p5_w1"), ("p4_down", "conv4_up", "p4_w1"),
    ("p3_out", "conv3_up", "p3_w1"), ("p4_out", "conv4_down", "p4_w2"), ("p5_out", "conv5_down", "p5_w2"),
    ("p6_out", "conv6_down", "p6_w2"), ("p7_out", "conv7_down", "p7_w2"),
)  # fmt: skip
_INPUTS = {
    "p3": "p3_down_channel", "p4": "p4_down_channel", "p5": "p5_down_channel", "p6": "p5_to_p6",
    "p4_up": "p4_down_channel_2", "p5_up": "p5_down_channel_2",
}  # fmt: skip


class _Layout(ABC):
    """Names of the tensors of each part of the network in a file.

    Args:
        norms: names of the tensors of a batch norm: (in the file, here).

    Attributes:
        HEADS: names of the heads: (in the file, here).
    """

    HEADS: ClassVar[tuple[tuple[str, str], ...]]

    def __init__(self, norms: tuple[tuple[str, str], ...]) -> None:
        self.norms = norms

    @abstractmethod
    def backbone(self, network: EfficientDet) -> Names: ...

    @abstractmethod
    def pyramid(self, network: EfficientDet) -> Names: ...

    @abstractmethod
    def head(self, network: EfficientDet, source: str, target: str) -> Names: ...

    def norm(self, source: str, target: str) -> Names:
        for old, new in self.norms:
            yield f"{source}.{old}", f"{target}.{new}"

    def names(self, network: EfficientDet) -> dict[str, str]:
        """{name in the file: parameter here}, of every parameter and statistic."""
        heads = [self.head(network, *names) for names in self.HEADS]
        return dict(chain(self.backbone(network), self.pyramid(network), *heads))

    def backbone_names(self, network: EfficientDet) -> dict[str, str]:
        """`names` of the backbone alone, for files of an ImageNet classifier."""
        return dict(self.backbone(network))


class _Port(_Layout):
    """Names in the port of zylo117 and in the old model zoo, which follows it.

    Args:
        conv: infix between the name of a convolution and that of its tensors.
        norm: names of the tensors of a batch norm: (in the file, here).
        prefix: of the backbone.
        blocks, stem, stem_norm: names in the backbone.
    """

    HEADS = (("regressor", "regression"), ("classifier", "classification"))

    def __init__(
        self, conv: str, norm: tuple[tuple[str, str], ...], prefix: str, blocks: str, stem: str, stem_norm: str
    ) -> None:
        super().__init__(norm)
        self.conv_infix = conv
        self.blocks = f"{prefix}{blocks}"
        self.stem = (f"{prefix}{stem}", f"{prefix}{stem_norm}")

    def conv(self, source: str, target: str, tensors: tuple[str, ...] = _WEIGHT) -> Names:
        for name in tensors:
            yield f"{source}{self.conv_infix}.{name}", f"{target}.{name}"

    def separable(self, source: str, target: str) -> Names:
        yield from self.conv(f"{source}.depthwise_conv", f"{target}.depthwise")
        yield from self.conv(f"{source}.pointwise_conv", f"{target}.pointwise", _BOTH)

    def backbone(self, network: EfficientDet) -> Names:
        yield from self.conv(self.stem[0], "backbone.stem.conv")
        yield from self.norm(self.stem[1], "backbone.stem.bn")
        for i, block in enumerate(network.backbone.blocks):
            old, new = f"{self.blocks}.{i}", f"backbone.blocks.{i}"
            parts = [("_depthwise_conv", "_bn1", "depthwise"), ("_project_conv", "_bn2", "project")]
            if block.is_expanded:
                parts.append(("_expand_conv", "_bn0", "expand"))
            for conv, norm, target in parts:
                yield from self.conv(f"{old}.{conv}", f"{new}.{target}.conv")
                yield from self.norm(f"{old}.{norm}", f"{new}.{target}.bn")
            for part in ("reduce", "expand"):
                yield from self.conv(f"{old}._se_{part}", f"{new}.excite.{part}", _BOTH)

    def pyramid(self, network: EfficientDet) -> Names:
        for target, source in _INPUTS.items():
            yield from self.conv(f"bifpn.0.{source}.0", f"pyramid.inputs.{target}.conv", _BOTH)
            yield from self.norm(f"bifpn.0.{source}.1", f"pyramid.inputs.{target}.bn")
        for layer in range(len(network.pyramid.layers)):
            for node, conv, weights in _NODES:
                target = f"pyramid.layers.{layer}.{node}"
                yield f"bifpn.{layer}.{weights}", f"{target}.fusion"
                yield from self.separable(f"bifpn.{layer}.{conv}", f"{target}.conv")
                yield from self.norm(f"bifpn.{layer}.{conv}.bn", f"{target}.bn")

    def head(self, network: EfficientDet, source: str, target: str) -> Names:
        head = getattr(network, target)
        for i in range(len(head.layers)):
            yield from self.separable(f"{source}.conv_list.{i}", f"{target}.layers.{i}")
            for level in range(len(head.norms)):
                yield from self.norm(f"{source}.bn_list.{level}.{i}", f"{target}.norms.{level}.{i}")
        yield from self.separable(f"{source}.header", f"{target}.predict")


class _Timm(_Layout):
    """Names in rwightman's effdet, whose backbone is from timm.

    Args:
        prefix: of the backbone; empty in the file of a classifier.
    """

    HEADS = (("box_net", "regression"), ("class_net", "classification"))

    def __init__(self, prefix: str) -> None:
        super().__init__(_TORCH_NORM)
        self.prefix = prefix

    def separable(self, source: str, target: str) -> Names:
        yield f"{source}.conv_dw.weight", f"{target}.depthwise.weight"
        for name in _BOTH:
            yield f"{source}.conv_pw.{name}", f"{target}.pointwise.{name}"

    def backbone(self, network: EfficientDet) -> Names:
        yield f"{self.prefix}conv_stem.weight", "backbone.stem.conv.weight"
        yield from self.norm(f"{self.prefix}bn1", "backbone.stem.bn")
        number = 0
        for stage, count in enumerate(network.backbone.layers):
            for i in range(count):
                old, new = f"{self.prefix}blocks.{stage}.{i}", f"backbone.blocks.{number}"
                is_expanded = network.backbone.blocks[number].is_expanded
                # Batch norms are numbered in order; the names of the 1x1 convolutions depend on their position.
                wide = (("conv_pw", "expand"), ("conv_dw", "depthwise"), ("conv_pwl", "project"))
                parts = wide if is_expanded else (("conv_dw", "depthwise"), ("conv_pw", "project"))
                for place, (conv, target) in enumerate(parts, 1):
                    yield f"{old}.{conv}.weight", f"{new}.{target}.conv.weight"
                    yield from self.norm(f"{old}.bn{place}", f"{new}.{target}.bn")
                for part in ("reduce", "expand"):
                    for name in _BOTH:
                        yield f"{old}.se.conv_{part}.{name}", f"{new}.excite.{part}.{name}"
                number += 1

    def pyramid(self, network: EfficientDet) -> Names:
        # A lateral belongs to the first node that uses it; maps are numbered 0 to 2 (backbone), then P6.
        laterals = {
            "p6": "fpn.resample.3",
            "p5": "fpn.cell.0.fnode.1.combine.resample.2",
            "p4": "fpn.cell.0.fnode.2.combine.resample.1",
            "p3": "fpn.cell.0.fnode.3.combine.resample.0",
            "p4_up": "fpn.cell.0.fnode.4.combine.resample.1",
            "p5_up": "fpn.cell.0.fnode.5.combine.resample.2",
        }
        for target, source in laterals.items():
            for name in _BOTH:
                yield f"{source}.conv.conv.{name}", f"pyramid.inputs.{target}.conv.{name}"
            yield from self.norm(f"{source}.conv.bn", f"pyramid.inputs.{target}.bn")
        for layer in range(len(network.pyramid.layers)):
            for number, (node, _, _) in enumerate(_NODES):
                old, new = f"fpn.cell.{layer}.fnode.{number}", f"pyramid.layers.{layer}.{node}"
                yield f"{old}.combine.edge_weights", f"{new}.fusion"
                yield from self.separable(f"{old}.after_combine.conv", f"{new}.conv")
                yield from self.norm(f"{old}.after_combine.conv.bn", f"{new}.bn")

    def head(self, network: EfficientDet, source: str, target: str) -> Names:
        head = getattr(network, target)
        for i in range(len(head.layers)):
            yield from self.separable(f"{source}.conv_rep.{i}", f"{target}.layers.{i}")
            for level in range(len(head.norms)):
                yield from self.norm(f"{source}.bn_rep.{i}.{level}.bn", f"{target}.norms.{level}.{i}")
        yield from self.separable(f"{source}.predict", f"{target}.predict")


_ZYLO117 = _Port(".conv", _TORCH_NORM, "backbone_net.model.", "_blocks", "_conv_stem", "_bn0")
_ZOO = _Port("", _ZOO_NORM, "backbone_net.model.", "blocks", "conv_stem", "bn0")
_LUKEMELAS = _Port("", _TORCH_NORM, "", "_blocks", "_conv_stem", "_bn0")

SOURCES = (
    NamedSource(
        "zylo117",
        "torch",
        _ZYLO117.names,
        # The head of the classifier that the backbone comes from.
        unused=(r"backbone_net\.model\.(_conv_head|_bn1|_fc)\..*",),
        settings={**_SETTINGS, "pool_padding": "zero"},
    ),
    NamedSource(
        "effdet",
        "torch",
        _Timm("backbone.").names,
        unused=(r"anchors\.boxes",),
        settings={**_SETTINGS, "pool_padding": "ignore"},
        prefixes=("module.", "model."),
    ),
    # ImageNet classifiers, for `--partial backbone`.
    NamedSource(
        "efficientnet_pytorch",
        "torch",
        _LUKEMELAS.backbone_names,
        unused=(r"(_conv_head|_bn1|_fc)\..*",),
        settings=_NORM,
    ),
    NamedSource("timm", "torch", _Timm("").backbone_names, unused=(r"(conv_head|bn2|classifier)\..*",), settings=_NORM),
    NamedSource(
        "zoo",
        "mindspore",
        _ZOO.names,
        # The head of a classifier in the old network that is never used.
        unused=(r"backbone_net\.model\.(conv_head|_bn2|end_point)\..*",),
        settings={**_SETTINGS, "pool_padding": "ignore"},
    ),
)
