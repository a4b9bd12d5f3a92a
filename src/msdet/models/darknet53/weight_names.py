"""Names and order of the tensors of DarkNet53 and CSPDarkNet53 in files of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mindspore import nn

from msdet.layers.conv import ConvBnAct
from msdet.models.darknet53.network import Classifier, CspDarkNet53, DarkNet53
from msdet.models.weight_names import DarknetSource, NamedSource, WeightSource

# Preprocessing and layers that weights of darknet need: RGB in 0..1.
DARKNET_SETTINGS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "padding": "symmetric", "bn_eps": 1e-5}

# Order in which the old zoo numbers the convolutions of a stage that are outside its residual units.
_STAGE = ("downsample", "main", "after", "shortcut", "merge")
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def convolutions(cell: nn.Cell) -> list[nn.Cell]:
    """All `ConvBnAct`, and all convolutions and dense layers with bias, in the order of definition.

    For both backbones this is the order of darknet.
    """
    return [
        part
        for _, part in cell.cells_and_names()
        if isinstance(part, ConvBnAct) or (isinstance(part, nn.Conv2d | nn.Dense) and part.has_bias)
    ]


def zoo_conv(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Names of one convolution with batch norm: (in the old model zoo, here)."""
    yield f"{source}.0.weight", f"{target}.conv.weight"
    for name in _STATISTICS:
        yield f"{source}.1.{name}", f"{target}.bn.{name}"


def zoo_darknet53(backbone: DarkNet53, source: str = "", target: str = "backbone.") -> Iterator[tuple[str, str]]:
    """Names of DarkNet53: (in the old model zoo, here).

    Args:
        backbone: defines the number of units of each stage.
        source, target: prefixes of the names there and here.
    """
    yield from zoo_conv(f"{source}conv0", f"{target}stem")
    for number, stage in enumerate(backbone.stages):
        yield from zoo_conv(f"{source}conv{number + 1}", f"{target}stages.{number}.0")
        for unit in range(1, len(stage)):
            for old, new in (("conv1", "reduce"), ("conv2", "expand")):
                yield from zoo_conv(
                    f"{source}layer{number + 1}.{unit - 1}.{old}", f"{target}stages.{number}.{unit}.{new}"
                )


def zoo_cspdarknet53(backbone: CspDarkNet53, source: str, target: str = "backbone.") -> Iterator[tuple[str, str]]:
    """Names of CSPDarkNet53: (in the old model zoo, here); arguments as in `zoo_darknet53`.

    The single unit of the first stage has no list of its own there: its convolutions are numbered with the others.
    """
    yield from zoo_conv(f"{source}conv0", f"{target}stem")
    first = ("downsample", "main", "units.0.reduce", "units.0.expand", "after", "shortcut", "merge")
    number = 1
    for stage in range(len(backbone.stages)):
        for part in first if stage == 0 else _STAGE:
            yield from zoo_conv(f"{source}conv{number}", f"{target}stages.{stage}.{part}")
            number += 1
        for unit in range(len(backbone.stages[stage].units) if stage else 0):
            for old, new in (("conv1", "reduce"), ("conv2", "expand")):
                yield from zoo_conv(
                    f"{source}layer{stage + 1}.{unit}.{old}", f"{target}stages.{stage}.units.{unit}.{new}"
                )


def _darknet53_names(network: Classifier) -> dict[str, str]:
    names = dict(zoo_darknet53(network.backbone))
    return {**names, **{f"fc.{name}": f"fc.{name}" for name in ("weight", "bias")}}


def _cspdarknet53_names(network: Classifier) -> dict[str, str]:
    names = dict(zoo_cspdarknet53(network.backbone, "backbone."))
    return {**names, **{f"head.fc.{name}": f"fc.{name}" for name in ("weight", "bias")}}


# model -> convolutions of the backbone, activation in darknet and in the old zoo, names in the old zoo.
_OF_MODEL = {
    "darknet53": (52, "leaky", "relu", _darknet53_names),
    "cspdarknet53": (72, "mish", "mish_tanh", _cspdarknet53_names),
}


def classifier_sources(model: str, resize: str, class_names: Sequence[str], num_classes: int) -> list[WeightSource]:
    """Weight sources of a classifier: .weights or `conv.N` (only the backbone) of darknet, .ckpt of the old zoo.

    Neither file names its classes. The zoo sorts them by the names of their folders, which is also the meaning of an
    empty list of names. Darknet uses its own, unsorted list (data/imagenet.labels.list): unless the user gives the
    names, the classes get placeholder names that no folder has, so that nothing is scored in the wrong order.

    Args:
        model: "darknet53" or "cspdarknet53".
        resize: resize mode of the old zoo's evaluation.
        class_names: given by the user.
        num_classes: number of outputs.
    """
    layers, darknet_activation, zoo_activation, names = _OF_MODEL[model]
    darknet = {**DARKNET_SETTINGS, "activation": darknet_activation, "interpolation": "linear"}
    # Evaluation in darknet: the shortest side is resized to the 256 px of the input.
    darknet |= {"resize": "shortest_side", "eval_resize": 256}
    if not class_names:
        darknet["class_names"] = tuple(f"darknet class {i}" for i in range(num_classes))
    zoo = {"activation": zoo_activation, "padding": "same", "bn_eps": 1e-5, "resize": resize,
           "interpolation": "linear"}  # fmt: skip
    # In the zoo, DarkNet53 is a network of its own or a backbone followed by a head.
    prefixes = ("module.", "network.", "backbone.", "head.") if model == "darknet53" else ("module.",)
    return [
        DarknetSource("darknet", convolutions, darknet, layers),
        NamedSource("zoo", "mindspore", names, settings=zoo, prefixes=prefixes),
    ]
