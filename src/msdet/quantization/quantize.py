"""Quantization-aware training: inserts fake quantization into a network of `ConvBnAct`.

Quantized are the input, the kernel of every convolution, the output of every batch norm and activation, and the results
of residual additions and concatenations. The outputs of convolutions without batch norm (the heads) stay in float.

Batch norm: an int8 network has batch norm folded into its kernels, so what is rounded is w * g with
g = gamma / sqrt(variance + eps) per output channel. Folding during training would need a second convolution for the
statistics of the batch. Instead, the convolution uses the kernel round(w * g) / g, with the running variance, and an
ordinary batch norm follows: one convolution, batch statistics, and no jump where these differ from the running ones.
With a symmetric grid per output channel (the default) the factor cancels exactly, since the grid scales with it:
round(w * g) / g = round(w); it is then not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import mindspore as ms
from mindspore import Tensor, nn, ops

from msdet.layers.conv import Add, Concat, ConvBnAct, LeakyReLU
from msdet.quantization.fake_quant import FakeQuant, FakeQuantLeaky, RoundingCell, WeightQuant

_MIN_GAIN = 1e-6


class QuantSettings(Protocol):
    """The configuration keys that `quantize` uses; pairs are (weights, activations)."""

    @property
    def quant_bits(self) -> tuple[int, int]: ...

    @property
    def per_channel(self) -> tuple[bool, bool]: ...

    @property
    def symmetric(self) -> tuple[bool, bool]: ...

    @property
    def observer_decay(self) -> float: ...


class FakeQuantConv(nn.Cell):
    """A convolution with fake quantization of its kernel and optionally of its input.

    Args:
        conv: the convolution to replace; its parameters are reused.
        weights: fake quantization of the kernel.
        batch_norm: the batch norm that follows, if the kernel is to be rounded as folded with it; else None.
        inputs: fake quantization of the input; None: the input is already on a grid.
    """

    def __init__(
        self, conv: nn.Conv2d, weights: WeightQuant, batch_norm: nn.BatchNorm2d | None, inputs: FakeQuant | None
    ) -> None:
        super().__init__()
        self.weight = conv.weight
        self.has_bias = conv.has_bias
        if conv.has_bias:
            self.bias = conv.bias
        self.conv2d, self.bias_add = conv.conv2d, ops.BiasAdd()
        self.weights = weights
        self.has_inputs = inputs is not None
        if inputs is not None:
            self.inputs = inputs
        self.folds = batch_norm is not None
        if batch_norm is not None:
            self.gamma, self.variance, self.eps = batch_norm.gamma, batch_norm.moving_variance, batch_norm.eps
        self.is_active = True

    def kernel(self) -> Tensor:
        """The kernel that the convolution uses."""
        if not self.is_active:
            return self.weight
        if not self.folds:
            return self.weights(self.weight)
        gain = self.gamma / ops.sqrt(self.variance + self.eps)
        gain = ops.stop_gradient(ops.select(ops.abs(gain) < _MIN_GAIN, ops.ones_like(gain) * _MIN_GAIN, gain))
        gain = ops.reshape(gain, (-1, 1, 1, 1))
        return self.weights(self.weight * gain) / gain

    def construct(self, x: Tensor) -> Tensor:
        if self.has_inputs:
            x = self.inputs(x)
        y = self.conv2d(x, self.kernel())
        return self.bias_add(y, self.bias) if self.has_bias else y


class FakeQuantActivation(nn.Cell):
    """An activation other than LeakyReLU, with fake quantization after it and optionally before it."""

    def __init__(self, before: FakeQuant | None, activation: nn.Cell, after: FakeQuant) -> None:
        super().__init__()
        self.has_before = before is not None
        if before is not None:
            self.before = before
        self.activation = activation
        self.after = after

    def construct(self, x: Tensor) -> Tensor:
        if self.has_before:
            x = self.before(x)
        return self.after(self.activation(x))


class FakeQuantJoin(nn.Cell):
    """An addition or a concatenation with fake quantization of its result."""

    def __init__(self, join: nn.Cell, after: FakeQuant) -> None:
        super().__init__()
        self.join = join
        self.after = after

    def construct(self, first: Tensor, second: Tensor) -> Tensor:
        return self.after(self.join(first, second))


def quantize(network: nn.Cell, cfg: QuantSettings) -> nn.Cell:
    """Replaces the layers of a network, in place, by versions with fake quantization; parameters keep names and values.

    The ranges of the activations, `*.low` and `*.high`, are added as parameters without gradient.

    Args:
        network: built of `ConvBnAct`, `nn.Conv2d`, `Add` and `Concat`; the first convolution processes the images.
        cfg: see `QuantSettings`; activations are quantized per tensor.

    Returns:
        The network.

    Raises:
        ValueError: the network has no `ConvBnAct`.
    """
    blocks = [cell for _, cell in network.cells_and_names() if isinstance(cell, ConvBnAct)]
    if not blocks:
        raise ValueError(f"{type(network).__name__} has no ConvBnAct that could be quantized")
    names = {id(parameter): parameter.name for parameter in network.get_parameters()}
    for parent, name, cell in _children(network):
        if isinstance(cell, nn.Conv2d):
            is_first = cell is blocks[0].conv
            _replace(parent, name, _quantized_conv(cell, parent, cfg, is_first))
        elif isinstance(cell, Add | Concat):
            _replace(parent, name, FakeQuantJoin(cell, _observer(cfg)))
        elif isinstance(parent, ConvBnAct) and name == "activation":
            _replace(parent, name, _quantized_activation(cell, cfg))
    # A cell renames the parameters that are assigned to it.
    for path, parameter in network.parameters_and_names():
        parameter.name = names.get(id(parameter), path)
    return network


def _quantized_conv(conv: nn.Conv2d, parent: nn.Cell, cfg: QuantSettings, is_first: bool) -> FakeQuantConv:
    per_channel, symmetric = cfg.per_channel[0], cfg.symmetric[0]
    batch_norm = parent.bn if isinstance(parent, ConvBnAct) and not (per_channel and symmetric) else None
    weights = WeightQuant(per_channel, symmetric, cfg.quant_bits[0])
    return FakeQuantConv(conv, weights, batch_norm, _observer(cfg) if is_first else None)


def _quantized_activation(activation: nn.Cell, cfg: QuantSettings) -> nn.Cell:
    if isinstance(activation, LeakyReLU):
        return FakeQuantLeaky(activation, cfg.observer_decay, cfg.symmetric[1], cfg.quant_bits[1])
    # A runtime fuses ReLU into the convolution: it clips the sums to the output range and does not round them before.
    before = None if isinstance(activation, nn.ReLU) else _observer(cfg)
    return FakeQuantActivation(before, activation, _observer(cfg))


def _observer(cfg: QuantSettings) -> FakeQuant:
    return FakeQuant(cfg.observer_decay, cfg.symmetric[1], cfg.quant_bits[1])


def _children(network: nn.Cell) -> list[tuple[nn.Cell, str, nn.Cell]]:
    """(parent, attribute, child) of every cell, listed before anything is replaced."""
    parents = [cell for _, cell in network.cells_and_names()]
    return [(parent, name, child) for parent in parents for name, child in parent.name_cells().items()]


def _replace(parent: nn.Cell, name: str, cell: nn.Cell) -> None:
    cell.set_train(parent.training)
    if isinstance(parent, nn.SequentialCell | nn.CellList):
        parent[int(name)] = cell
    else:
        setattr(parent, name, cell)


def fake_quants(network: nn.Cell) -> Iterator[FakeQuant]:
    """All fake quantizations of activations in a quantized network."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, FakeQuant):
            yield cell


def enable_fake_quant(network: nn.Cell, weights: bool, activations: bool) -> None:
    """Turns fake quantization of weights and of activations on or off; ranges are observed in any case.

    Does not affect a compiled graph: call it before the first step, or compile again.
    """
    for _, cell in network.cells_and_names():
        if isinstance(cell, FakeQuantConv):
            cell.is_active = weights
        elif isinstance(cell, FakeQuant):
            cell.is_active = activations


@contextmanager
def calibrating(network: nn.Cell) -> Iterator[Callable[[int], None]]:
    """Context in which a quantized network computes in float, with running statistics, and accumulates its ranges.

    Yields a function to call at the end with the number of batches; it divides the accumulated ranges by it.
    """
    was_training = network.training
    network.set_train(False)
    enable_fake_quant(network, weights=False, activations=False)
    observers = [cell.observer for cell in fake_quants(network)]
    for observer in observers:
        observer.is_calibrating = True
        for end in (observer.low, observer.high):
            end.set_data(Tensor([0.0], ms.float32))

    def divide(batches: int) -> None:
        for observer in observers:
            for end in (observer.low, observer.high):
                end.set_data(Tensor(end.asnumpy() / max(batches, 1), ms.float32))

    try:
        yield divide
    finally:
        for observer in observers:
            observer.is_calibrating = False
        enable_fake_quant(network, weights=True, activations=True)
        network.set_train(was_training)


def mark_grids(network: nn.Cell) -> list[tuple[float, int]]:
    """Prepares a quantized network for an exporter: kernels stay in float, activations are clipped to their grids.

    Returns:
        Scale and zero point of every grid.
    """
    enable_fake_quant(network, weights=False, activations=True)
    return [grid for cell in fake_quants(network) for grid in cell.mark()]


def use_round_operator(network: nn.Cell) -> nn.Cell:
    """Makes a quantized network round by `ops.round`: the same values, and correct in float16 too."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, RoundingCell):
            cell.uses_round = True
    return network


class Int8Conv(nn.Cell):
    """A convolution that stores its kernel as int8 codes and dequantizes it to compute.

    Args:
        conv: a `FakeQuantConv` with symmetric weights.
    """

    def __init__(self, conv: FakeQuantConv) -> None:
        super().__init__()
        codes, scale, _ = conv.weights.codes(conv.weight * 1)
        self.codes = ms.Parameter(Tensor(codes.asnumpy().astype("int8")), name="codes", requires_grad=False)
        self.scale = ms.Parameter(Tensor(scale.asnumpy()), name="scale", requires_grad=False)
        self.has_bias = conv.has_bias
        if conv.has_bias:
            self.bias = conv.bias
        self.conv2d, self.bias_add = conv.conv2d, conv.bias_add
        self.has_inputs = conv.has_inputs
        if conv.has_inputs:
            self.inputs = conv.inputs

    def construct(self, x: Tensor) -> Tensor:
        if self.has_inputs:
            x = self.inputs(x)
        y = self.conv2d(x, ops.cast(self.codes, ms.float32) * self.scale)
        return self.bias_add(y, self.bias) if self.has_bias else y


def store_int8(network: nn.Cell) -> nn.Cell:
    """Replaces the kernels of a quantized network, in place, by their int8 codes and scales.

    Raises:
        ValueError: the weights are not quantized symmetrically, per channel and in at most 8 bits.
    """
    for parent, name, cell in _children(network):
        if isinstance(cell, FakeQuantConv):
            if cell.folds or cell.weights.levels > 127:
                raise ValueError("kernels can be stored as int8 only with symmetric weights and one scale per channel")
            _replace(parent, name, Int8Conv(cell))
    for name, parameter in network.parameters_and_names():
        parameter.name = name
    return network
