"""How the files of other programs name and order a network's tensors: what a model's recipe says of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn


@dataclass(frozen=True)
class DarknetSource:
    """A darknet .weights file: numbers without names, in the order of the network's cfg.

    Attributes:
        name: what `--layout` calls it.
        layers: network -> its `ConvBnAct`, `nn.Conv2d` and `nn.Dense` cells in darknet's order, those of the backbone
            first. A `ConvBnAct` is stored as beta, gamma, mean, variance, kernel; the others as bias, kernel.
        settings: keys of the configuration that these weights want, such as mean, std, activation.
        backbone_layers: how many of the layers are the backbone's, for `--partial backbone`.
    """

    name: str
    layers: Callable[[nn.Cell], Sequence[nn.Cell]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    backbone_layers: int = 0


@dataclass(frozen=True)
class NamedSource:
    """A file of named tensors: PyTorch's .pth and .safetensors, or MindSpore's .ckpt.

    Attributes:
        name: what `--layout` calls it.
        container: "torch" (.pth, .pt, .safetensors) or "mindspore" (.ckpt).
        names: network -> {name in the file: parameter of the network}, for every parameter and statistic.
        dead: regular expressions, matched against the whole name, of tensors that such files hold and no forward pass
            uses.
        settings: keys of the configuration that these weights want.
        convert: parameter of the network -> what to do with the file's tensor before its shape is checked.
        strip: prefixes of names in the file to be taken off, such as "module.".
    """

    name: str
    container: str
    names: Callable[[nn.Cell], Mapping[str, str]]
    dead: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    convert: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    strip: Sequence[str] = ("module.",)


WeightSource = DarknetSource | NamedSource
