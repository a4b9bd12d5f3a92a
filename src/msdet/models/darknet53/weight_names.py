"""How other programs order and name the tensors of DarkNet53 and CSPDarkNet53."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mindspore import nn

from msdet.layers.conv import ConvBnAct
from msdet.models.darknet53.network import Classifier, CspDarkNet53, DarkNet53
from msdet.models.weight_names import DarknetSource, NamedSource, WeightSource

# Preprocessing and layers that darknet's own weights want: RGB in 0..1.
DARKNET_SETTINGS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "padding": "symmetric", "bn_eps": 1e-5}

# The old zoo numbers the convolutions of a stage outside its residual units in this order.
_STAGE = ("downsample", "main", "after", "shortcut", "merge")
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def convolutions(cell: nn.Cell) -> list[nn.Cell]:
    """The `ConvBnAct`, and the convolutions and dense layers with bias, in the order in which a network was written;
    for both backbones that is darknet's order."""
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
        backbone: tells the number of units of each stage.
        source, target: prefixes of both sides.
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
    """Names of CSPDarkNet53: (in the old model zoo, here); prefixes of both sides.

    The one unit of the first stage has no list of its own there: its convolutions are counted with the others.
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


# model -> convolutions of the backbone, activation of darknet's and of the old zoo's weights, names of the latter.
_OF_MODEL = {
    "darknet53": (52, "leaky", "relu", _darknet53_names),
    "cspdarknet53": (72, "mish", "mish_tanh", _cspdarknet53_names),
}


def classifier_sources(model: str, resize: str, class_names: Sequence[str], num_classes: int) -> list[WeightSource]:
    """What a classifier can be filled from: darknet's .weights (whole, or a backbone's `conv.N`) and the old zoo's
    .ckpt.

    Neither file names its classes. The zoo numbered them by the sorted names of their folders, which is what an open
    list of names stands for; darknet by its own list (data/imagenet.labels.list), which is not sorted: unless the user
    gives it, the classes get names that no folder has, so that nothing is scored in the wrong order.

    Args:
        model: "darknet53" or "cspdarknet53".
        resize: of the evaluation that these weights are known to have had.
        class_names: given by the user.
        num_classes: outputs.
    """
    layers, darknet_activation, zoo_activation, names = _OF_MODEL[model]
    darknet = {**DARKNET_SETTINGS, "activation": darknet_activation, "interpolation": "linear"}
    # Darknet's own evaluation: the shortest side to the 256 px of the network's input.
    darknet |= {"resize": "shortest_side", "eval_resize": 256}
    if not class_names:
        darknet["class_names"] = tuple(f"darknet class {i}" for i in range(num_classes))
    zoo = {"activation": zoo_activation, "padding": "same", "bn_eps": 1e-5, "resize": resize,
           "interpolation": "linear"}  # fmt: skip
    # DarkNet53 stands there by itself, or as the backbone that a head follows.
    strip = ("module.", "network.", "backbone.", "head.") if model == "darknet53" else ("module.",)
    return [
        DarknetSource("darknet", convolutions, darknet, layers),
        NamedSource("zoo", "mindspore", names, settings=zoo, strip=strip),
    ]
