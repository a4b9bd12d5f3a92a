"""Names of the tensors of RefineDet, of the reduced VGG16 of SSD and of ResNet101 in files of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mindspore import nn

from msdet.models.refinedet.layers import upsample_weight
from msdet.models.weight_names import NamedSource

Names = Iterator[tuple[str, str]]

# Preprocessing of the VGG16 of Caffe: values 0..255 minus the mean colour, without scaling.
_CAFFE = {"mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255, 1 / 255, 1 / 255)}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "bn_eps": 1e-5}
_BOTH = ("weight", "bias")
_NORM = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)
_LEVELS = 4


def _conv(source: str, target: str) -> Names:
    for name in _BOTH:
        yield f"{source}.{name}", f"{target}.{name}"


def _vgg(network: nn.Cell, prefix: str) -> Names:
    """Convolutions are numbered by their position among convolutions, ReLUs and pools."""
    place = 0
    for s, stage in enumerate(network.backbone.stages):
        for i in range(len(stage)):
            yield from _conv(f"{prefix}{place}", f"backbone.stages.{s}.{i}.conv")
            place += 2
        place += 1
    yield from _conv(f"{prefix}{place}", "backbone.fc6.conv")
    yield from _conv(f"{prefix}{place + 2}", "backbone.fc7.conv")


def _vgg_names(network: nn.Cell) -> Mapping[str, str]:
    return dict(_vgg(network, ""))


def _luuuyi_names(network: nn.Cell) -> Mapping[str, str]:
    def names() -> Names:
        yield from _vgg(network, "vgg.")
        yield "conv4_3_L2Norm.weight", "norms.0.weight"
        yield "conv5_3_L2Norm.weight", "norms.1.weight"
        for i in range(2):
            yield from _conv(f"extras.{i}", f"extra.{i}.conv")
        for level in range(_LEVELS):
            for head in ("arm_loc", "arm_conf", "odm_loc", "odm_conf"):
                yield from _conv(f"{head}.{level}", f"{head}.levels.{level}")
            yield from _conv(f"tcb0.{3 * level}", f"transfer.{level}.first.conv")
            yield from _conv(f"tcb0.{3 * level + 2}", f"transfer.{level}.second.conv")
            yield from _conv(f"tcb2.{3 * level + 1}", f"transfer.{level}.last.conv")
        for level in range(_LEVELS - 1):
            yield f"tcb1.{level}.weight", f"transfer.{level}.upsample.conv.weight"
            yield f"tcb1.{level}.bias", f"transfer.{level}.upsample.bias"

    return dict(names())


def _torchvision_names(network: nn.Cell) -> Mapping[str, str]:
    def norm(source: str, target: str) -> Names:
        for old, new in _NORM:
            yield f"{source}.{old}", f"{target}.{new}"

    def names() -> Names:
        yield "conv1.weight", "backbone.stem.weight"
        yield from norm("bn1", "backbone.stem_bn")
        for s, stage in enumerate(network.backbone.stages):
            for i, block in enumerate(stage):
                old, new = f"layer{s + 1}.{i}", f"backbone.stages.{s}.{i}"
                parts = [("conv1", "bn1", "reduce"), ("conv2", "bn2", "middle"), ("conv3", "bn3", "expand")]
                if block.is_projected:
                    parts.append(("downsample.0", "downsample.1", "project"))
                for conv, bn, target in parts:
                    yield f"{old}.{conv}.weight", f"{new}.{target}.conv.weight"
                    yield from norm(f"{old}.{bn}", f"{new}.{target}.bn")

    return dict(names())


VGG16_SOURCES = (
    NamedSource(
        "luuuyi",
        "torch",
        _luuuyi_names,
        settings={**_CAFFE, "clip_anchors": True, "resize": "stretch", "interpolation": "linear"},
        convert={f"transfer.{level}.upsample.conv.weight": upsample_weight for level in range(_LEVELS - 1)},
    ),
    # vgg16_reducedfc.pth, the pretrained weights of PyTorch ports of SSD.
    NamedSource("vgg16_reducedfc", "torch", _vgg_names, settings=_CAFFE),
)
RESNET101_SOURCES = (NamedSource("torchvision", "torch", _torchvision_names, unused=(r"fc\..*",), settings=_IMAGENET),)
