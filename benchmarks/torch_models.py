"""DarkNet53 as a classifier and YOLOv3 in PyTorch, with the module names of this project's networks.

They load this project's tensors, of which only batch norm has other names. The numbers of layers and channels are
inferred from the tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_NAMES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class ConvBnAct(nn.Module):
    """Convolution, batch norm, leaky ReLU of slope 0.1."""

    def __init__(self, weight: np.ndarray, stride: int = 1) -> None:
        super().__init__()
        outputs, inputs, size, _ = weight.shape
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(self.bn(self.conv(x)), 0.1, inplace=True)


class ResidualUnit(nn.Module):
    """A 1x1 and a 3x3 convolution with a residual connection."""

    def __init__(self, weights: Mapping[str, np.ndarray], prefix: str) -> None:
        super().__init__()
        self.reduce = ConvBnAct(weights[f"{prefix}.reduce.conv.weight"])
        self.expand = ConvBnAct(weights[f"{prefix}.expand.conv.weight"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.expand(self.reduce(x))


class DarkNet53(nn.Module):
    """Images (N, 3, H, W) -> maps of strides 8, 16 and 32."""

    def __init__(self, weights: Mapping[str, np.ndarray], prefix: str) -> None:
        super().__init__()
        self.stem = ConvBnAct(weights[f"{prefix}.stem.conv.weight"])
        self.stages = nn.ModuleList(self._stage(weights, f"{prefix}.stages.{i}") for i in range(5))

    @staticmethod
    def _stage(weights: Mapping[str, np.ndarray], prefix: str) -> nn.Sequential:
        down = ConvBnAct(weights[f"{prefix}.0.conv.weight"], 2)
        return nn.Sequential(
            down, *[ResidualUnit(weights, f"{prefix}.{i}") for i in _numbers(weights, prefix, "reduce")]
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[2:]


class Classifier(nn.Module):
    """Images -> logits."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.backbone = DarkNet53(weights, "backbone")
        self.fc = nn.Linear(*weights["fc.weight"].shape[::-1])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.fc(self.backbone(x)[-1].mean((2, 3))),)


class DetectionBlock(nn.Module):
    """Alternating 1x1 and 3x3 convolutions, and the raw map."""

    def __init__(self, weights: Mapping[str, np.ndarray], prefix: str) -> None:
        super().__init__()
        names = [f"{prefix}.trunk.{i}.conv.weight" for i in _numbers(weights, f"{prefix}.trunk", "conv")]
        self.trunk = nn.Sequential(*[ConvBnAct(weights[name]) for name in names])
        self.expand = ConvBnAct(weights[f"{prefix}.expand.conv.weight"])
        outputs, inputs = weights[f"{prefix}.predict.weight"].shape[:2]
        self.predict = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        branch = self.trunk(x)
        return branch, self.predict(self.expand(branch))


class YoloV3(nn.Module):
    """Images -> raw maps of strides 32, 16, 8."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.backbone = DarkNet53(weights, "backbone")
        self.block32, self.block16, self.block8 = (DetectionBlock(weights, f"block{s}") for s in (32, 16, 8))
        self.lateral16, self.lateral8 = (ConvBnAct(weights[f"lateral{s}.conv.weight"]) for s in (16, 8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        stride8, stride16, stride32 = self.backbone(x)
        branch, raw32 = self.block32(stride32)
        branch, raw16 = self.block16(torch.cat((_twice(self.lateral16(branch)), stride16), 1))
        _, raw8 = self.block8(torch.cat((_twice(self.lateral8(branch)), stride8), 1))
        return raw32, raw16, raw8


def _twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _numbers(weights: Mapping[str, np.ndarray], prefix: str, child: str) -> list[int]:
    """The indices of layers below a prefix that have a child of this name."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.{child}\.", name) for name in weights)
    return sorted({int(match[1]) for match in found if match})


def build(name: str, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """Builds the network `classifier` or `yolov3` and loads the weights.

    Args:
        weights: this project's tensors by name.

    Raises:
        RuntimeError: a tensor is missing or unused.
    """
    model = Classifier(weights) if name == "classifier" else YoloV3(weights)
    state = {}
    for name_, array in weights.items():
        head, _, tail = name_.rpartition(".")
        state[f"{head}.{_NAMES.get(tail, tail) if head.endswith('.bn') else tail}"] = torch.from_numpy(array)
    own = model.state_dict()
    state |= {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    model.load_state_dict(state)
    return model
