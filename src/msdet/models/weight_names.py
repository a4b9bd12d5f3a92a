"""Descriptions of weights files of other programs: names and order of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn


@dataclass(frozen=True)
class DarknetSource:
    """A darknet .weights file: values without names, in the order of the layers in darknet's cfg.

    Attributes:
        name: its `--layout`.
        layers: network -> its `ConvBnAct`, `nn.Conv2d` and `nn.Dense` cells in the order of darknet, those of the
            backbone first. A `ConvBnAct` is stored as beta, gamma, mean, variance, kernel; the others as bias, kernel.
        settings: configuration that these weights need, such as mean, std, activation.
        backbone_layers: number of layers of the backbone, for `--partial backbone`.
    """

    name: str
    layers: Callable[[nn.Cell], Sequence[nn.Cell]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    backbone_layers: int = 0


@dataclass(frozen=True)
class NamedSource:
    """A file of named tensors: .pth or .safetensors of PyTorch, or .ckpt of MindSpore.

    Attributes:
        name: its `--layout`.
        file_format: "torch" (.pth, .pt, .safetensors) or "mindspore" (.ckpt).
        names: network -> {name in the file: parameter of the network}, for every parameter and statistic.
        unused: regular expressions for the full names of tensors in such files that no forward pass uses.
        settings: configuration that these weights need.
        convert: parameter of the network -> function applied to the tensor of the file before its shape is checked.
        prefixes: removed from the names in the file, such as "module.".
    """

    name: str
    file_format: str
    names: Callable[[nn.Cell], Mapping[str, str]]
    unused: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    convert: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    prefixes: Sequence[str] = ("module.",)


WeightSource = DarknetSource | NamedSource
