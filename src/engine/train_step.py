"""One training step as one compiled graph: from a uint8 batch to updated weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

# Operators are named as primitives here: these functions are laid out once for every parameter of the network, and the
# compiler resolves a primitive several times faster than `*`, which it looks up by type and broadcast.
_add = ops.Add()
_apply_momentum = ops.ApplyMomentum()
_assign = ops.Assign()
_half_square_sum = ops.L2Loss()
_map = ops.HyperMap()
_mul = ops.Mul()
_select = ops.Select()
_zeros_like = ops.ZerosLike()

_gate = ops.MultitypeFuncGraph("gate")
_accumulate = ops.MultitypeFuncGraph("accumulate")
_momentum_update = ops.MultitypeFuncGraph("momentum_update")
_average = ops.MultitypeFuncGraph("average")


@_gate.register("Tensor", "Tensor", "Tensor")
def _gate_one(is_open: Tensor, factor: Tensor, gradient: Tensor) -> Tensor:
    """factor * gradient, or zeros where the gate is shut: a product alone would keep NaN and inf."""
    return _select(is_open, _mul(gradient, factor), _zeros_like(gradient))


@_accumulate.register("Tensor", "Tensor", "Tensor")
def _accumulate_one(keep: Tensor, buffer: Tensor, gradient: Tensor) -> Tensor:
    return _assign(buffer, _add(_mul(buffer, keep), gradient))


@_momentum_update.register("Tensor", "Tensor", "Tensor", "Bool", "Tensor", "Tensor", "Tensor")
def _momentum_update_one(
    rate: Tensor, momentum: Tensor, decay: Tensor, has_decay: bool, weight: Tensor, velocity: Tensor, gradient: Tensor
) -> Tensor:
    if has_decay:
        gradient = _add(gradient, _mul(decay, weight))
    return _apply_momentum(weight, velocity, rate, gradient, momentum)


@_average.register("Tensor", "Tensor", "Tensor", "Tensor")
def _average_one(decay: Tensor, rest: Tensor, average: Tensor, weight: Tensor) -> Tensor:
    return _assign(average, _add(_mul(decay, average), _mul(rest, weight)))


@dataclass(frozen=True)
class StepOptions:
    """What a training step does to its gradient.

    Attributes:
        momentum: of SGD: v = momentum * v + g; w = w - rate * v.
        weight_decay: added to the gradient as weight_decay * w, except on biases and batch norm's gamma and beta.
        loss_weight: multiplies the unscaled float32 gradient.
        clip_norm: largest L2 norm of the whole gradient after `loss_weight`; 0 = off.
        accumulate_steps: batches whose mean gradient makes one update.
        ema_decay: of the exponential moving average of weights and batch-norm statistics; 0 = off.
        loss_scale: multiplies the loss before the backward pass, and is divided out again.
        dynamic_loss_scale: halve the scale at an overflow, double it after `scale_window` good steps.
        decay_norm_and_bias: apply `weight_decay` to biases, gamma and beta as well.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    loss_weight: float = 1.0
    clip_norm: float = 0.0
    accumulate_steps: int = 1
    ema_decay: float = 0.0
    loss_scale: float = 1.0
    dynamic_loss_scale: bool = False
    scale_window: int = 2000
    decay_norm_and_bias: bool = False


def is_norm_or_bias(name: str) -> bool:
    """Whether a parameter, by its MindSpore name, is a bias or belongs to a normalisation."""
    return name.endswith((".bias", ".gamma", ".beta"))


class LossCell(nn.Cell):
    """uint8 images (N, H, W, 3) and their targets -> (sum of the losses, each loss), float32 scalars."""

    def __init__(self, preprocess: nn.Cell, network: nn.Cell, criterion: nn.Cell) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.network = network
        self.criterion = criterion

    def construct(self, images: Tensor, boxes: Tensor, labels: Tensor, image_size: Tensor) -> tuple:
        losses = self.criterion(self.network(self.preprocess(images)), boxes, labels, image_size)
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total, losses


class TrainStep(nn.Cell):
    """Loss, gradient, all-reduce, clip, finite check, SGD with momentum, moving average.

    The step has no branches: where an update must not happen (a gradient that is not finite, or an accumulation window
    that is still open) it is carried out with rate 0, momentum 1 and a zero gradient, which changes nothing.
    An overflow inside a window discards the whole window.

    Args:
        loss_cell: returns (total loss, tuple of losses).
        options: see `StepOptions`.
        reduce_gradients: averages a tuple of gradients over all ranks; None for one process.
    """

    def __init__(
        self, loss_cell: nn.Cell, options: StepOptions, reduce_gradients: Callable[[tuple], tuple] | None = None
    ) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell
        self.options = options
        self.reduce_gradients = reduce_gradients
        self.weights = ms.ParameterTuple(loss_cell.trainable_params())
        # Moving averages cover the batch-norm statistics too: averaged weights with the raw statistics do not fit.
        self.averaged = ms.ParameterTuple(list(loss_cell.network.get_parameters()) if options.ema_decay else [])
        self.velocity = _zeros(self.weights, "velocity.")
        self.buffer = _zeros(self.weights, "buffer.") if options.accumulate_steps > 1 else ()
        self.average = ms.ParameterTuple([Parameter(p.value().copy(), name=f"ema.{p.name}") for p in self.averaged])
        for parameter in self.average:
            parameter.requires_grad = False
        self.has_decay = tuple(
            options.weight_decay > 0 and (options.decay_norm_and_bias or not is_norm_or_bias(p.name))
            for p in self.weights
        )
        self.scale = _scalar("scaler.scale", options.loss_scale)
        self.good_steps = _scalar("scaler.good_steps", 0)
        self.window_ok = _scalar("scaler.window_ok", 1)
        self.grad = ms.value_and_grad(self._scaled_loss, None, self.weights, has_aux=True)

    def _scaled_loss(self, images: Tensor, boxes: Tensor, labels: Tensor, image_size: Tensor, scale: Tensor) -> tuple:
        total, losses = self.loss_cell(images, boxes, labels, image_size)
        return total * scale, losses

    def construct(
        self,
        images: Tensor,
        boxes: Tensor,
        labels: Tensor,
        image_size: Tensor,
        rate: Tensor,
        position: Tensor,
        ema_decay: Tensor,
    ) -> tuple:
        """Runs one step.

        Args:
            images, boxes, labels, image_size: a batch, as the loss cell takes it.
            rate: float32 scalar, the learning rate of this step.
            position: int32 scalar, 0 .. accumulate_steps - 1: place in the accumulation window.
            ema_decay: float32 scalar; the moving average's decay at this step.

        Returns:
            losses (tuple of float32 scalars, unscaled and unweighted), gradient norm before clipping (float32 scalar,
            of the whole window at its end), ok (bool scalar: False if this step's gradient was not finite),
            scale (float32 scalar, the loss scale this step used).
        """
        scale = ops.identity(self.scale)
        (_, losses), gradients = self.grad(images, boxes, labels, image_size, scale)
        if self.reduce_gradients is not None:
            gradients = self.reduce_gradients(gradients)
        norm, ok = self._norm_and_finite(gradients, scale)
        factor = self.options.loss_weight / scale
        if self.options.accumulate_steps > 1:
            norm, update, gradients = self._accumulate_window(gradients, factor, ok, position)
        else:
            update = ok
            gradients = self._gated(gradients, update, factor * self._clip_factor(norm))
        self._update_weights(gradients, update, rate, ema_decay)
        self._update_scale(ok)
        return losses, norm, ok, scale

    def _norm_and_finite(self, gradients: tuple, scale: Tensor) -> tuple[Tensor, Tensor]:
        """L2 norm of loss_weight * gradient / scale, and whether it is finite (then every element is)."""
        norm = _norm(gradients) * (self.options.loss_weight / scale)
        return norm, ops.isfinite(norm)

    def _clip_factor(self, norm: Tensor) -> Tensor:
        if self.options.clip_norm > 0:
            return ops.minimum(self.options.clip_norm / (norm + 1e-6), ops.ones_like(norm))
        return ops.ones_like(norm)

    def _gated(self, gradients: tuple, is_open: Tensor, factor: Tensor) -> tuple:
        return _map(ops.partial(_gate, is_open, factor), gradients)

    def _accumulate_window(self, gradients: tuple, factor: Tensor, ok: Tensor, position: Tensor) -> tuple:
        steps = self.options.accumulate_steps
        is_first = ops.equal(position, 0)
        gradients = self._gated(gradients, ok, factor / steps)
        keep = 1 - ops.cast(is_first, ms.float32)
        buffers = _map(ops.partial(_accumulate, keep), self.buffer, gradients)
        so_far = ops.maximum(self.window_ok, ops.cast(is_first, ms.float32))
        window_ok = ops.assign(self.window_ok, so_far * ops.cast(ok, ms.float32))
        update = ops.logical_and(window_ok > 0.5, ops.equal(position, steps - 1))
        norm = _norm(buffers)
        return norm, update, self._gated(buffers, update, self._clip_factor(norm))

    def _update_weights(self, gradients: tuple, update: Tensor, rate: Tensor, ema_decay: Tensor) -> None:
        on = ops.cast(update, ms.float32)
        momentum = on * self.options.momentum + (1 - on)
        done = _map(
            ops.partial(_momentum_update, rate * on, momentum, self.options.weight_decay * on),
            self.has_decay,
            self.weights,
            self.velocity,
            gradients,
        )
        if self.options.ema_decay > 0:
            averaged = ops.depend(self.averaged, done)
            rest = on * (1 - ema_decay)
            _map(ops.partial(_average, 1 - rest, rest), self.average, averaged)

    def _update_scale(self, ok: Tensor) -> None:
        if self.options.dynamic_loss_scale:
            on = ops.cast(ok, ms.float32)
            good = on * (self.good_steps + 1)
            is_full = ops.cast(good >= self.options.scale_window, ms.float32)
            halved = ops.maximum(self.scale * 0.5, ops.ones_like(self.scale))
            ops.assign(self.scale, on * self.scale * (1 + is_full) + (1 - on) * halved)
            ops.assign(self.good_steps, good * (1 - is_full))

    def state(self) -> dict[str, np.ndarray]:
        """What the next step depends on besides weights and averages: velocity, accumulation buffer, loss scale."""
        return {p.name: p.asnumpy().copy() for p in self._own_state()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes back what `state` gave.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a shape differs.
        """
        for parameter in self._own_state():
            _set(parameter, state[parameter.name])

    def averages(self) -> dict[str, np.ndarray]:
        """The moving averages under the names of the parameters they average; empty when the average is off."""
        return {p.name: a.asnumpy().copy() for p, a in zip(self.averaged, self.average, strict=True)}

    def load_averages(self, averages: Mapping[str, np.ndarray]) -> None:
        """Takes back what `averages` gave.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a shape differs.
        """
        for parameter, average in zip(self.averaged, self.average, strict=True):
            _set(average, averages[parameter.name])

    def restart_averages(self) -> None:
        """Lets the moving averages begin at the present weights, after these were loaded from a file."""
        for parameter, average in zip(self.averaged, self.average, strict=True):
            _set(average, parameter.asnumpy())

    def _own_state(self) -> tuple[Parameter, ...]:
        return (*self.velocity, *self.buffer, self.scale, self.good_steps, self.window_ok)


def _set(parameter: Parameter, value: np.ndarray) -> None:
    value = np.ascontiguousarray(value, np.float32)
    if value.shape != tuple(parameter.shape):
        raise ValueError(f"{parameter.name}: shape {value.shape}, not {tuple(parameter.shape)}")
    parameter.set_data(Tensor(value))


def _norm(gradients: tuple) -> Tensor:
    return ops.sqrt(2 * ops.addn(_map(_half_square_sum, gradients)))


def _zeros(parameters: ms.ParameterTuple, prefix: str) -> ms.ParameterTuple:
    return ms.ParameterTuple(
        [
            Parameter(np.zeros(p.shape, np.float32), name=prefix + p.name, requires_grad=False)
            for p in parameters
        ]
    )


def _scalar(name: str, value: float) -> Parameter:
    return Parameter(Tensor(value, ms.float32), name=name, requires_grad=False)
