"""One training step as one compiled graph: from a uint8 batch to updated weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, nn, ops

_apply_rate = ops.ApplyGradientDescent()
_map = ops.HyperMap()
_reshape = ops.Reshape()
_slice = ops.Slice()

_flatten = ops.MultitypeFuncGraph("flatten")
_descend = ops.MultitypeFuncGraph("descend")
_clip = ops.MultitypeFuncGraph("clip")
_write = ops.MultitypeFuncGraph("write")


@_flatten.register("Tensor")
def _flatten_one(tensor: Tensor) -> Tensor:
    # A small operator costs a narrow network more than what it computes.
    return tensor if tensor.ndim == 1 else _reshape(tensor, (-1,))


@_descend.register("Tensor", "Tensor", "Tensor", "Tuple", "Tuple", "Tuple")
def _descend_one(rate: Tensor, velocity: Tensor, weight: Tensor, start: tuple, size: tuple, shape: tuple) -> Tensor:
    return _apply_rate(weight, rate, _reshape(_slice(velocity, start, size), shape))


@_clip.register("Number", "Tensor", "Tensor", "Tuple", "Tuple")
def _clip_one(limit: float, vector: Tensor, weight: Tensor, start: tuple, size: tuple) -> Tensor:
    # The weight is there for the map alone, which would go into tuples that come first.
    part = _slice(vector, start, size)
    return part * ops.minimum(limit / (_norm(part) + 1e-6), Tensor(1.0, ms.float32))


@_write.register("Tensor", "Tensor", "Tuple", "Tuple", "Tuple")
def _write_one(vector: Tensor, parameter: Tensor, start: tuple, size: tuple, shape: tuple) -> Tensor:
    part = _slice(vector, start, size)
    return ops.assign(parameter, _reshape(part, shape) if len(shape) != 1 else part)


def _norm(vector: Tensor) -> Tensor:
    # Not L2Loss: on CPU it adds up one by one in float32 and is 2% off for 20 million elements.
    return ops.sqrt(ops.reduce_sum(ops.square(vector)))


@dataclass(frozen=True)
class StepOptions:
    """What a training step does to its gradient.

    Attributes:
        momentum: of SGD: v = momentum * v + g; w = w - rate * v.
        weight_decay: added to the gradient as weight_decay * w, except on biases and batch norm's gamma and beta.
        loss_weight: multiplies the unscaled float32 gradient.
        clip_norm: largest L2 norm of the whole gradient after `loss_weight`; 0 = off.
        clip_norm_each: largest L2 norm of the gradient of each weight, applied before `clip_norm`; 0 = off.
        accumulate_steps: batches whose mean gradient makes one update.
        ema_decay: of the exponential moving average of weights and batch-norm statistics; 0 = off.
        loss_scale: multiplies the loss before the backward pass, and is divided out again.
        dynamic_loss_scale: halve the scale at an overflow, double it after `scale_window` good steps.
        decay_norm_and_bias: apply `weight_decay` to biases, gamma and beta as well.
        asks_for_status: ask the device, too, whether something has overflowed: for chips that saturate, where an
            overflow is the largest number and not infinite.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    loss_weight: float = 1.0
    clip_norm: float = 0.0
    clip_norm_each: float = 0.0
    accumulate_steps: int = 1
    ema_decay: float = 0.0
    loss_scale: float = 1.0
    dynamic_loss_scale: bool = False
    scale_window: int = 2000
    decay_norm_and_bias: bool = False
    asks_for_status: bool = False


def is_norm_or_bias(name: str) -> bool:
    """Whether a parameter, by its MindSpore name, is a bias or belongs to a normalisation (batch norm, a pyramid's
    normalised fusion)."""
    return name.rsplit(".", 1)[-1] in ("bias", "gamma", "beta", "fusion")


class LossCell(nn.Cell):
    """A batch, as `Batch.arrays` orders it -> (sum of the losses, each loss), float32 scalars.

    Images are uint8 (N, H, W, 3), their valid sizes int32 (N, 2); what follows goes to the criterion.
    """

    def __init__(self, preprocess: nn.Cell, network: nn.Cell, criterion: nn.Cell) -> None:
        # Parameters keep the names that they have in the network alone, which are those in a checkpoint.
        super().__init__(auto_prefix=False)
        self.preprocess = preprocess
        self.network = network
        self.criterion = criterion

    def construct(self, images: Tensor, valid_sizes: Tensor, *targets: Tensor) -> tuple:
        losses = self.criterion(self.network(self.preprocess(images, valid_sizes)), *targets)
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total, losses


class MeanOverRanks(nn.Cell):
    """A vector, averaged over all processes of a distributed run.

    Args:
        group_size: number of processes.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, vector: Tensor) -> Tensor:
        return self.all_reduce(vector) / self.group_size


class TrainStep(nn.Cell):
    """Loss, gradient, all-reduce, clip, finite check, SGD with momentum, moving average.

    Gradient, velocity, accumulation buffer and moving average are one long vector each: a narrow network on a CPU
    spends half its step on starting small operators otherwise, and a distributed one needs a single all-reduce.
    Weights with decay come first in it.

    The step has no branches: where an update must not happen (a gradient that is not finite, or an accumulation window
    that is still open) it is carried out with rate 0, momentum 1 and a zero gradient, which changes nothing.
    An overflow inside a window discards the whole window.

    A step with an overflow changes nothing else either: what its forward pass has written (the statistics of batch
    norm, the ranges of observers) is set back, on every rank. Only a dynamic loss scale follows the overflow.

    Args:
        loss_cell: returns (total loss, tuple of losses); its attribute `network` holds the weights.
        options: see `StepOptions`.
        mean_over_ranks: averages a vector over all ranks; None for one process.
    """

    def __init__(
        self, loss_cell: nn.Cell, options: StepOptions, mean_over_ranks: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell
        self.options = options
        self.mean_over_ranks = mean_over_ranks
        trainable = loss_cell.trainable_params()
        decayed = [p for p in trainable if options.decay_norm_and_bias or not is_norm_or_bias(p.name)]
        rest = [p for p in trainable if not (options.decay_norm_and_bias or not is_norm_or_bias(p.name))]
        self.decayed = ms.ParameterTuple(decayed)
        self.weights = ms.ParameterTuple(decayed + rest)
        self.starts, self.sizes, self.shapes = _layout(self.weights)
        count = sum(p.size for p in self.weights)
        self.no_decay = Tensor(np.zeros(count - sum(p.size for p in decayed), np.float32))
        self.velocity = _vector("velocity", count)
        if options.accumulate_steps > 1:
            self.buffer = _vector("buffer", count)
        # What the forward pass itself may write.
        self.statistics = ms.ParameterTuple([p for p in loss_cell.network.get_parameters() if not p.requires_grad])
        self.statistics_starts, self.statistics_sizes, self.statistics_shapes = _layout(self.statistics)
        # Moving averages cover the batch-norm statistics too: averaged weights do not fit the raw statistics.
        self.averaged = ms.ParameterTuple(loss_cell.network.get_parameters() if options.ema_decay else [])
        if options.ema_decay > 0:
            self.average = _vector("average", sum(p.size for p in self.averaged))
            self.restart_averages()
        self.scale = _scalar("scaler.scale", options.loss_scale)
        self.good_steps = _scalar("scaler.good_steps", 0)
        self.window_ok = _scalar("scaler.window_ok", 1)
        self.grad = ms.value_and_grad(self._scaled_loss, None, self.weights, has_aux=True)

    def _scaled_loss(self, scale: Tensor, *batch: Tensor) -> tuple:
        total, losses = self.loss_cell(*batch)
        return total * scale, losses

    def construct(self, rate: Tensor, position: Tensor, ema_decay: Tensor, *batch: Tensor) -> tuple:
        """Runs one step.

        Args:
            rate: float32 scalar, the learning rate of this step.
            position: int32 scalar, 0 .. accumulate_steps - 1: place in the accumulation window.
            ema_decay: float32 scalar; the moving average's decay at this step.
            batch: what the loss cell takes.

        Returns:
            losses (tuple of float32 scalars, unscaled and unweighted), gradient norm before clipping (float32 scalar,
            of the window so far; of this step alone, and not finite, where its gradient is not), ok (bool scalar:
            False if loss, gradient or batch-norm statistics of this step were not finite), scale (float32 scalar, the
            loss scale this step used).
        """
        scale = self.scale * 1
        before = self._read_statistics(scale)
        # The forward pass overwrites the statistics: it has to wait until they are read.
        images = ops.depend(batch[0], before)
        (total, losses), gradients = self.grad(scale, images, *batch[1:])
        gradient = ops.concat(_map(_flatten, gradients))
        after = self._read_statistics(gradient)
        is_own_finite = self._is_finite(total, after, gradient)
        if self.mean_over_ranks is not None:
            gradient = self.mean_over_ranks(gradient)
        own_norm = _norm(gradient) * (self.options.loss_weight / scale)
        ok = ops.logical_and(ops.isfinite(own_norm), self._on_all_ranks(is_own_finite))
        restored = self._write_statistics(ops.select(ok, after, before))
        gradient = self._gated(gradient, ok, self.options.loss_weight / scale)
        update = ok
        if self.options.accumulate_steps > 1:
            gradient, update = self._accumulate_window(gradient, ok, position)
        norm = _norm(gradient)
        done = self._update_weights(gradient, norm, update, ops.depend(rate, restored), ema_decay)
        self._update_scale(ok)
        # The compiler drops an assignment to a weight that nothing waits for.
        norm = ops.depend(ops.select(ok, norm, own_norm), (done, restored))
        return losses, norm, ok, scale

    def _read_statistics(self, ready: Tensor) -> Tensor:
        """A copy of the statistics as one vector, taken once `ready` is computed; one zero where there are none."""
        if len(self.statistics) == 0:
            return ops.zeros((1,), ms.float32)
        return ops.concat(_map(_flatten, ops.depend(self.statistics, ready)))

    def _write_statistics(self, vector: Tensor) -> tuple:
        if len(self.statistics) == 0:
            return ()
        # Not ops.split: it loops in Python over the parts and exceeds the compiler's call depth from about 100 on.
        write = ops.partial(_write, vector)
        return _map(write, self.statistics, self.statistics_starts, self.statistics_sizes, self.statistics_shapes)

    def _is_finite(self, total: Tensor, statistics: Tensor, gradient: Tensor) -> Tensor:
        """Whether loss and statistics are, on this rank: a gradient can be finite where the loss is not (a limit, a
        logarithm), and both where a variance is not (what it normalises becomes 0). The gradient is asked later, when
        it holds that of all ranks."""
        finite = ops.isfinite(total + ops.reduce_sum(statistics * 0))
        if self.options.asks_for_status:
            finite = ops.logical_and(finite, amp.all_finite((gradient,)))
        return finite

    def _on_all_ranks(self, finite: Tensor) -> Tensor:
        share = ops.cast(finite, ms.float32)
        if self.mean_over_ranks is not None:
            share = self.mean_over_ranks(share)
        return share > 0.999

    def _gated(self, vector: Tensor, is_open: Tensor, factor: Tensor) -> Tensor:
        """factor * vector, or zeros where the gate is shut: a product alone would keep NaN and inf."""
        return ops.select(is_open, vector * factor, ops.zeros_like(vector))

    def _accumulate_window(self, gradient: Tensor, ok: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        steps = self.options.accumulate_steps
        is_first = ops.cast(ops.equal(position, 0), ms.float32)
        buffer = ops.assign(self.buffer, self.buffer * (1 - is_first) + gradient / steps)
        so_far = ops.maximum(self.window_ok, is_first)
        window_ok = ops.assign(self.window_ok, so_far * ops.cast(ok, ms.float32))
        return buffer, ops.logical_and(window_ok > 0.5, ops.equal(position, steps - 1))

    def _update_weights(self, gradient: Tensor, norm: Tensor, update: Tensor, rate: Tensor, ema_decay: Tensor) -> tuple:
        on = ops.cast(update, ms.float32)
        if self.options.clip_norm_each > 0:
            clip = ops.partial(_clip, self.options.clip_norm_each, gradient)
            gradient = ops.concat(_map(clip, self.weights, self.starts, self.sizes))
            norm = _norm(gradient)
        if self.options.clip_norm > 0:
            gradient = gradient * ops.minimum(self.options.clip_norm / (norm + 1e-6), ops.ones_like(norm))
        if self.options.weight_decay > 0:
            decayed = ops.concat(_map(_flatten, self.decayed)) * self.options.weight_decay
            gradient = gradient + ops.concat((decayed, self.no_decay))
        momentum = on * self.options.momentum + (1 - on)
        velocity = ops.assign(self.velocity, self.velocity * momentum + gradient * on)
        done = _map(ops.partial(_descend, rate * on, velocity), self.weights, self.starts, self.sizes, self.shapes)
        if self.options.ema_decay > 0:
            now = ops.concat(_map(_flatten, ops.depend(self.averaged, done)))
            ops.assign(self.average, self.average + (now - self.average) * (on * (1 - ema_decay)))
        return done

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
        vectors = {f"{v.name}.{n}": part for v in self._vectors() for n, part in _parts(v, self.weights).items()}
        return {**vectors, **{p.name: p.asnumpy().copy() for p in self._scalars()}}

    def load_state(self, state: Mapping[str, np.ndarray], with_window: bool = True) -> None:
        """Takes back what `state` gave.

        Args:
            state: of this step, or of one with other options.
            with_window: False begins a new accumulation window, as where their number of steps is another.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a shape differs.
        """
        for vector in self._vectors() if with_window else (self.velocity,):
            _fill(vector, {p.name: state[f"{vector.name}.{p.name}"] for p in self.weights}, self.weights)
        scalars = [self.good_steps]
        if with_window:
            scalars.append(self.window_ok)
        if self.options.dynamic_loss_scale:
            # One that does not follow overflows is what the options say.
            scalars.append(self.scale)
        for scalar in scalars:
            scalar.set_data(Tensor(np.float32(np.reshape(state[scalar.name], ()))))

    def averages(self) -> dict[str, np.ndarray]:
        """The moving averages under the names of the parameters they average; empty when the average is off."""
        return _parts(self.average, self.averaged) if len(self.averaged) else {}

    def load_averages(self, averages: Mapping[str, np.ndarray]) -> None:
        """Takes back what `averages` gave.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a shape differs.
        """
        if len(self.averaged):
            _fill(self.average, averages, self.averaged)

    def restart_averages(self) -> None:
        """Lets the moving averages begin at the present weights, as after these were loaded from a file."""
        self.load_averages({p.name: p.asnumpy() for p in self.averaged})

    def _vectors(self) -> tuple[Parameter, ...]:
        return (self.velocity, self.buffer) if self.options.accumulate_steps > 1 else (self.velocity,)

    def _scalars(self) -> tuple[Parameter, ...]:
        return self.scale, self.good_steps, self.window_ok


def _layout(parameters: Sequence[Parameter]) -> tuple[tuple, tuple, tuple]:
    """Start, size (each a 1-tuple) and shape of every parameter in the vector that holds them one after the other."""
    ends = np.cumsum([p.size for p in parameters])
    starts = tuple((int(end - p.size),) for end, p in zip(ends, parameters, strict=True))
    return starts, tuple((p.size,) for p in parameters), tuple(tuple(p.shape) for p in parameters)


def _parts(vector: Parameter, parameters: Sequence[Parameter]) -> dict[str, np.ndarray]:
    values = vector.asnumpy()
    starts, sizes, shapes = _layout(parameters)
    return {
        p.name: values[start : start + size].reshape(shape).copy()
        for p, (start,), (size,), shape in zip(parameters, starts, sizes, shapes, strict=True)
    }


def _fill(vector: Parameter, values: Mapping[str, np.ndarray], parameters: Sequence[Parameter]) -> None:
    for p in parameters:
        if np.shape(values[p.name]) != tuple(p.shape):
            raise ValueError(f"{p.name}: shape {np.shape(values[p.name])}, not {tuple(p.shape)}")
    flat = [np.asarray(values[p.name], np.float32).ravel() for p in parameters]
    vector.set_data(Tensor(np.concatenate(flat)))


def _vector(name: str, size: int) -> Parameter:
    return Parameter(Tensor(np.zeros(size, np.float32)), name=name, requires_grad=False)


def _scalar(name: str, value: float) -> Parameter:
    return Parameter(Tensor(value, ms.float32), name=name, requires_grad=False)
