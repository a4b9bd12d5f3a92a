"""One training step as one compiled graph: from a uint8 batch to updated weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, nn, ops

from msdet.training.all_reduce import MeanOverRanks, OverRanks
from msdet.training.batch_norm_statistics import ToldStatistics
from msdet.training.flat import Parts, fill_vector, joined, parts_by_name, scalar_of, vector_of
from msdet.training.step_report import Launched, StepNumbers

_apply_rate = ops.ApplyGradientDescent()
_map = ops.HyperMap()

_descend = ops.MultitypeFuncGraph("descend")
_sum_squares = ops.MultitypeFuncGraph("sum_squares")
_write = ops.MultitypeFuncGraph("write")


@_descend.register("Tensor", "Tensor", "Tensor")
def _descend_one(rate: Tensor, weight: Tensor, velocity: Tensor) -> Tensor:
    return _apply_rate(weight, rate, velocity)


@_sum_squares.register("Tensor")
def _sum_squares_one(part: Tensor) -> Tensor:
    return ops.reduce_sum(ops.square(part))


@_write.register("Tensor", "Tensor")
def _write_one(parameter: Tensor, part: Tensor) -> Tensor:
    return ops.assign(parameter, part)


def _norm(vector: Tensor) -> Tensor:
    # Not L2Loss: on CPU it adds up one by one in float32 and is 2% off for 20 million elements.
    return ops.sqrt(ops.reduce_sum(ops.square(vector)))


def _as_number(condition: Tensor) -> Tensor:
    return ops.cast(condition, ms.float32)


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
        most_skips: steps in a row that may be left out because of an overflow; later ones change nothing, since the run
            is to end there. None: any number.
        asks_for_status: ask the device, too, whether something has overflowed: for chips that saturate, where an
            overflow is the largest number and not infinite.
        splits_at_once: vectors are split into tensors by one operator, see `flat.Parts`.
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
    most_skips: int | None = None
    asks_for_status: bool = False
    splits_at_once: bool = False


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


class TrainStep(nn.Cell):
    """Loss, gradient, all-reduce, clip, finite check, SGD with momentum, moving average.

    Gradient, velocity, accumulation buffer and moving average are one long vector each, see `flat`. Weights with decay
    come first in it. What the host wants to know is one vector too: reading it makes the host wait.

    The step has no branches: where an update must not happen (a gradient that is not finite, or an accumulation window
    that is still open) it is carried out with rate 0, momentum 1 and a zero gradient, which changes nothing.
    An overflow inside a window discards the whole window.

    A step with an overflow changes nothing else either: what its forward pass has written (the statistics of batch
    norm, the ranges of observers) is set back, on every rank. Only a dynamic loss scale follows the overflow. After too
    many in a row nothing is changed any more: a host that is a step behind still finds what the last of them has met.

    Args:
        loss_cell: returns (total loss, tuple of losses); its attribute `network` holds the weights.
        options: see `StepOptions`.
        mean_over_ranks: averages over all ranks; None for one process.
    """

    def __init__(self, loss_cell: nn.Cell, options: StepOptions, mean_over_ranks: MeanOverRanks | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell
        self.options = options
        self.mean_over_ranks = mean_over_ranks
        trainable = loss_cell.trainable_params()
        decayed = [p for p in trainable if options.decay_norm_and_bias or not is_norm_or_bias(p.name)]
        rest = [p for p in trainable if not (options.decay_norm_and_bias or not is_norm_or_bias(p.name))]
        self.decayed = ms.ParameterTuple(decayed)
        self.weights = ms.ParameterTuple(decayed + rest)
        # The rest is small: its mean is formed with that of the last numbers.
        self.over_ranks = OverRanks([p.size for p in decayed], mean_over_ranks)
        self.weight_parts = Parts(self.weights, options.splits_at_once)
        count = sum(p.size for p in self.weights)
        self.no_decay = Tensor(np.zeros(count - sum(p.size for p in decayed), np.float32))
        self.velocity = vector_of("velocity", count)
        if options.accumulate_steps > 1:
            self.buffer = vector_of("buffer", count)
        if options.clip_norm_each > 0:
            # Of every number in the vector, which weight it belongs to.
            sizes = [p.size for p in self.weights]
            self.owner = Tensor(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
        self.told = ToldStatistics(loss_cell.network)
        told = {id(p) for p in self.told.parameters}
        others = [p for p in loss_cell.network.get_parameters() if id(p) not in told]
        # What the forward pass itself may write.
        self.written = ms.ParameterTuple([p for p in others if not p.requires_grad])
        self.written_parts = Parts(self.written, options.splits_at_once)
        # Moving averages cover the batch-norm statistics too: averaged weights do not fit the raw statistics.
        self.averaged = ms.ParameterTuple(others if options.ema_decay else [])
        if options.ema_decay > 0:
            self.average = vector_of("average", sum(p.size for p in loss_cell.network.get_parameters()))
            self.restart_averages()
        self.scale = scalar_of("scaler.scale", options.loss_scale)
        self.good_steps = scalar_of("scaler.good_steps", 0)
        self.window_ok = scalar_of("scaler.window_ok", 1)
        self.skips = scalar_of("scaler.skips", 0)
        self.with_gradient_of = ms.ParameterTuple([*self.weights, *self.told.parameters])
        self.grad = ms.value_and_grad(self._scaled_loss, None, self.with_gradient_of, has_aux=True)

    def launch(
        self,
        batch: Sequence[np.ndarray],
        rate: float,
        position: int = 0,
        ema_decay: float = 0.0,
        stop: bool = False,
        ahead: bool = False,
    ) -> Launched:
        """Has the device run one step.

        Args:
            batch: what the loss cell takes.
            rate: learning rate.
            position: 0 .. accumulate_steps - 1, place in the accumulation window.
            ema_decay: of the moving average, at this step.
            stop: tells all ranks that this one was asked to stop.
            ahead: copy the batch to an Ascend without waiting for the step before.
        """
        controls = np.array([rate, position, ema_decay, stop], np.float32)
        sources = [Tensor(np.array(array)) for array in (controls, *batch)]
        inputs = [source.to("Ascend", non_blocking=True) for source in sources] if ahead else sources
        return Launched(self(*inputs), sources)

    def run(self, batch: Sequence[np.ndarray], rate: float, position: int = 0, ema_decay: float = 0.0) -> StepNumbers:
        """One step, waited for; arguments as of `launch`."""
        return self.launch(batch, rate, position, ema_decay).read()

    def _scaled_loss(self, scale: Tensor, *batch: Tensor) -> tuple:
        total, losses = self.loss_cell(*batch)
        return total * scale, losses

    def construct(self, controls: Tensor, *batch: Tensor) -> Tensor:
        """Runs one step.

        Args:
            controls: float32 (4,): rate, position, ema_decay and stop of `launch`.
            batch: what the loss cell takes.

        Returns:
            the report, float32 (2 * losses + 7,), as `StepNumbers.of` reads it: losses, whether they and the statistics
            were finite, stop, each the mean over the ranks; the same of this rank; gradient norm, whether the step was
            finite, scale.
        """
        rate, position, ema_decay, stop = controls[0], controls[1], controls[2], controls[3]
        scale = self.scale * 1
        before = self._read_written(scale)
        # The forward pass overwrites what is read here: it has to wait.
        images = ops.depend(batch[0], before)
        (total, losses), gradients = self.grad(scale, images, *batch[1:])
        told = self.told.of_batch(gradients[len(self.weights) :])
        own_gradient = self.over_ranks.in_buckets(gradients[: len(self.weights)])
        after = self._read_written(own_gradient)
        own = ops.stack((*losses, _as_number(self._is_finite(total, after, told, own_gradient)), stop))
        gradient, shared = self.over_ranks(own_gradient, own)
        own_norm = _norm(gradient) * (self.options.loss_weight / scale)
        is_finite = ops.logical_and(ops.isfinite(own_norm), shared[-2] > 0.999)
        ok = is_finite
        if self.options.most_skips is not None:
            ok = ops.logical_and(is_finite, self.skips < self.options.most_skips)
        restored = (*self._write_back(ops.select(ok, after, before)), *self.told.follow(told, ok))
        gradient = self._gated(gradient, ok, self.options.loss_weight / scale)
        update, norm = ok, own_norm
        if self.options.accumulate_steps > 1:
            gradient, update = self._accumulate_window(gradient, ok, position)
            norm = ops.select(ok, _norm(gradient), own_norm)
        done = self._update_weights(gradient, norm, update, ops.depend(rate, restored), ema_decay)
        # The compiler drops an assignment that nothing waits for.
        waited = (*done, *restored, *self._update_scale(ok))
        rest = ops.stack((norm, _as_number(is_finite), scale))
        return ops.depend(ops.concat((shared, own, rest)), waited)

    def _read_written(self, ready: Tensor | tuple) -> Tensor:
        """A copy of what the forward pass writes, as one vector, taken once `ready` is computed; one zero where that is
        nothing."""
        if len(self.written) == 0:
            return ops.zeros((1,), ms.float32)
        return joined(ops.depend(self.written, ready))

    def _write_back(self, vector: Tensor) -> tuple:
        if len(self.written) == 0:
            return ()
        return _map(_write, self.written, self.written_parts(vector, self.written))

    def _is_finite(self, total: Tensor, written: Tensor, told: Tensor, gradient: tuple) -> Tensor:
        """Whether loss and statistics are, on this rank: a gradient can be finite where the loss is not (a limit, a
        logarithm), and both where a variance is not (what it normalises becomes 0). The gradient is asked later, when
        it holds that of all ranks."""
        finite = ops.isfinite(total + ops.reduce_sum(written * 0) + ops.reduce_sum(told * 0))
        if self.options.asks_for_status:
            finite = ops.logical_and(finite, amp.all_finite(gradient))
        return finite

    def _gated(self, vector: Tensor, is_open: Tensor, factor: Tensor) -> Tensor:
        """factor * vector, or zeros where the gate is shut: a product alone would keep NaN and inf."""
        return ops.select(is_open, vector * factor, ops.zeros_like(vector))

    def _accumulate_window(self, gradient: Tensor, ok: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        steps = self.options.accumulate_steps
        is_first = _as_number(position < 0.5)
        buffer = ops.assign(self.buffer, self.buffer * (1 - is_first) + gradient / steps)
        so_far = ops.maximum(self.window_ok, is_first)
        window_ok = ops.assign(self.window_ok, so_far * _as_number(ok))
        return buffer, ops.logical_and(window_ok > 0.5, position > steps - 1.5)

    def _update_weights(self, gradient: Tensor, norm: Tensor, update: Tensor, rate: Tensor, ema_decay: Tensor) -> tuple:
        on = _as_number(update)
        if self.options.clip_norm_each > 0:
            gradient = self._clip_each(gradient)
            norm = _norm(gradient)
        if self.options.clip_norm > 0:
            gradient = gradient * ops.minimum(self.options.clip_norm / (norm + 1e-6), ops.ones_like(norm))
        if self.options.weight_decay > 0:
            decayed = joined(self.decayed) * self.options.weight_decay
            gradient = gradient + ops.concat((decayed, self.no_decay))
        momentum = on * self.options.momentum + (1 - on)
        velocity = ops.assign(self.velocity, self.velocity * momentum + gradient * on)
        done = _map(ops.partial(_descend, rate * on), self.weights, self.weight_parts(velocity, self.weights))
        if self.options.ema_decay > 0:
            now = joined(ops.depend(self.averaged, done))
            if len(self.told.parameters):
                now = ops.concat((now, self.told.moving))
            done += (ops.assign(self.average, self.average + (now - self.average) * (on * (1 - ema_decay))),)
        return done

    def _clip_each(self, gradient: Tensor) -> Tensor:
        norms = ops.sqrt(ops.stack(_map(_sum_squares, self.weight_parts(gradient, self.weights))))
        factors = ops.minimum(self.options.clip_norm_each / (norms + 1e-6), ops.ones_like(norms))
        return gradient * ops.gather(factors, self.owner, 0)

    def _update_scale(self, ok: Tensor) -> tuple:
        on = _as_number(ok)
        skips = ops.assign(self.skips, (self.skips + 1) * (1 - on))
        if not self.options.dynamic_loss_scale:
            return (skips,)
        good = on * (self.good_steps + 1)
        is_full = _as_number(good >= self.options.scale_window)
        halved = ops.maximum(self.scale * 0.5, ops.ones_like(self.scale))
        scale = ops.assign(self.scale, on * self.scale * (1 + is_full) + (1 - on) * halved)
        return skips, scale, ops.assign(self.good_steps, good * (1 - is_full))

    def state(self) -> dict[str, np.ndarray]:
        """What the next step depends on besides weights and averages: velocity, accumulation buffer, loss scale."""
        vectors = {f"{v.name}.{n}": part for v in self._vectors() for n, part in parts_by_name(v, self.weights).items()}
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
            fill_vector(vector, {p.name: state[f"{vector.name}.{p.name}"] for p in self.weights}, self.weights)
        scalars = [self.good_steps]
        if with_window:
            scalars.append(self.window_ok)
        if self.options.dynamic_loss_scale:
            # One that does not follow overflows is what the options say.
            scalars.append(self.scale)
        for scalar in scalars:
            scalar.set_data(Tensor(np.float32(np.reshape(state[scalar.name], ()))))
        # Checkpoints of earlier versions lack it.
        self.skips.set_data(Tensor(np.float32(np.reshape(state.get(self.skips.name, 0), ()))))

    def pour_statistics(self) -> None:
        """Writes into the network what it does not hold itself between the steps: see `ToldStatistics`. Before anything
        reads its parameters."""
        self.told.pour()

    def take_statistics(self) -> None:
        """After the parameters of the network were set: goes on from their statistics."""
        self.told.take()

    def averages(self) -> dict[str, np.ndarray]:
        """The moving averages under the names of the parameters they average; empty when the average is off."""
        return parts_by_name(self.average, self._all_averaged()) if self.options.ema_decay > 0 else {}

    def load_averages(self, averages: Mapping[str, np.ndarray]) -> None:
        """Takes back what `averages` gave.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a shape differs.
        """
        if self.options.ema_decay > 0:
            fill_vector(self.average, averages, self._all_averaged())

    def restart_averages(self) -> None:
        """Begins the moving averages anew from the current weights."""
        if self.options.ema_decay > 0:
            self.pour_statistics()
            fill_vector(self.average, {p.name: p.asnumpy() for p in self._all_averaged()}, self._all_averaged())

    def _all_averaged(self) -> tuple[Parameter, ...]:
        return (*self.averaged, *self.told.parameters)

    def _vectors(self) -> tuple[Parameter, ...]:
        return (self.velocity, self.buffer) if self.options.accumulate_steps > 1 else (self.velocity,)

    def _scalars(self) -> tuple[Parameter, ...]:
        return self.scale, self.good_steps, self.window_ok, self.skips
