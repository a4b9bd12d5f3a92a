"""One training step as a single compiled graph: from a uint8 batch to updated weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, nn, ops

from msdet.training.all_reduce import AllReduceMean, GradientReducer
from msdet.training.batch_norm_statistics import BatchNormStatistics
from msdet.training.flat import SplitVector, concat_flat, fill_vector, scalar_parameter, split_by_name, vector_parameter
from msdet.training.step_report import LaunchedStep, StepReport

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
    # Not L2Loss: on a CPU it sums sequentially in float32, an error of 2 % for 20 million elements.
    return ops.sqrt(ops.reduce_sum(ops.square(vector)))


def _as_float(condition: Tensor) -> Tensor:
    return ops.cast(condition, ms.float32)


@dataclass(frozen=True)
class StepOptions:
    """Options of a training step.

    Attributes:
        momentum: of SGD: v = momentum * v + g; w = w - rate * v.
        weight_decay: added to the gradient as weight_decay * w, except on biases and batch norm's gamma and beta.
        loss_weight: multiplies the unscaled float32 gradient.
        clip_norm: largest L2 norm of the whole gradient after `loss_weight`; 0 = off.
        clip_norm_each: largest L2 norm of the gradient of each weight, applied before `clip_norm`; 0 = off.
        accumulate_steps: number of batches whose mean gradient makes one update.
        ema_decay: decay of the exponential moving average of weights and batch-norm statistics; 0 = off.
        loss_scale: multiplies the loss before the backward pass; the gradient is divided by it afterwards.
        dynamic_loss_scale: halve the scale after an overflow, double it after `scale_window` finite steps.
        decay_norm_and_bias: apply `weight_decay` to biases, gamma and beta as well.
        max_skips: number of consecutive steps that may be skipped because of an overflow. After that no step changes
            anything, since the run is about to end. None: no limit.
        checks_status: also query the overflow status of the device: for chips that saturate, where an overflow gives
            the largest number instead of infinity.
        splits_in_one_op: split vectors into tensors by one operator, see `flat.SplitVector`.
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
    max_skips: int | None = None
    checks_status: bool = False
    splits_in_one_op: bool = False


def is_norm_or_bias(name: str) -> bool:
    """Whether the MindSpore name of a parameter is that of a bias or of a normalisation (batch norm, the normalised
    fusion weights of a BiFPN)."""
    return name.rsplit(".", 1)[-1] in ("bias", "gamma", "beta", "fusion")


class LossCell(nn.Cell):
    """Preprocess, network and criterion: the arrays of a batch -> (sum of the losses, each loss), float32 scalars.

    Images are uint8 (N, H, W, 3), their valid sizes int32 (N, 2); the remaining arrays go to the criterion.
    """

    def __init__(self, preprocess: nn.Cell, network: nn.Cell, criterion: nn.Cell) -> None:
        # Parameters keep their names in the network, which are those in a checkpoint.
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
    """Loss, gradient, all-reduce, clipping, finite check, SGD with momentum, moving average.

    Gradient, velocity, accumulation buffer and moving average are one flat vector each, see `flat`, in which weights
    with decay come first. The report to the host is a single vector too, since each read makes the host wait.

    The step has no branches: where no update must happen (a non-finite gradient, or an accumulation window that is not
    complete) it runs with rate 0, momentum 1 and a zero gradient, which changes nothing. An overflow inside a window
    discards the whole window.

    A step with an overflow is skipped on every rank: values that the forward pass has written (batch-norm statistics,
    ranges of observers) are restored, and only a dynamic loss scale changes. After `max_skips` consecutive overflows
    no step changes anything: a host that reads one step late still finds the state that the last of them started from.

    Args:
        loss_cell: returns (total loss, tuple of losses); its attribute `network` holds the weights.
        options: see `StepOptions`.
        all_reduce_mean: averages a vector over all ranks; None for one process.
    """

    def __init__(self, loss_cell: nn.Cell, options: StepOptions, all_reduce_mean: AllReduceMean | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell
        self.options = options
        self.all_reduce_mean = all_reduce_mean
        trainable = loss_cell.trainable_params()
        decayed = [p for p in trainable if options.decay_norm_and_bias or not is_norm_or_bias(p.name)]
        rest = [p for p in trainable if not (options.decay_norm_and_bias or not is_norm_or_bias(p.name))]
        self.decayed = ms.ParameterTuple(decayed)
        self.weights = ms.ParameterTuple(decayed + rest)
        # The rest is small: it shares the last all-reduce with the scalars.
        self.reducer = GradientReducer([p.size for p in decayed], all_reduce_mean)
        self.weight_parts = SplitVector(self.weights, options.splits_in_one_op)
        count = sum(p.size for p in self.weights)
        self.no_decay = Tensor(np.zeros(count - sum(p.size for p in decayed), np.float32))
        self.velocity = vector_parameter("velocity", count)
        if options.accumulate_steps > 1:
            self.buffer = vector_parameter("buffer", count)
        if options.clip_norm_each > 0:
            # Index of the weight that each element of the vector belongs to.
            sizes = [p.size for p in self.weights]
            self.owner = Tensor(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
        self.statistics = BatchNormStatistics(loss_cell.network)
        in_vector = {id(p) for p in self.statistics.parameters}
        others = [p for p in loss_cell.network.get_parameters() if id(p) not in in_vector]
        # Parameters that the forward pass itself may write.
        self.written = ms.ParameterTuple([p for p in others if not p.requires_grad])
        self.written_parts = SplitVector(self.written, options.splits_in_one_op)
        # Moving averages include the batch-norm statistics: averaged weights do not match the current statistics.
        self.averaged = ms.ParameterTuple(others if options.ema_decay else [])
        if options.ema_decay > 0:
            self.average = vector_parameter("average", sum(p.size for p in loss_cell.network.get_parameters()))
            self.restart_averages()
        self.scale = scalar_parameter("scaler.scale", options.loss_scale)
        self.good_steps = scalar_parameter("scaler.good_steps", 0)
        self.window_ok = scalar_parameter("scaler.window_ok", 1)
        self.skips = scalar_parameter("scaler.skips", 0)
        self.differentiated = ms.ParameterTuple([*self.weights, *self.statistics.parameters])
        self.grad = ms.value_and_grad(self._scaled_loss, None, self.differentiated, has_aux=True)

    def launch(
        self,
        batch: Sequence[np.ndarray],
        rate: float,
        position: int = 0,
        ema_decay: float = 0.0,
        stop: bool = False,
        ahead: bool = False,
    ) -> LaunchedStep:
        """Launches one step on the device without waiting for its result.

        Args:
            batch: inputs of the loss cell.
            rate: learning rate.
            position: 0 .. accumulate_steps - 1, position in the accumulation window.
            ema_decay: decay of the moving average at this step.
            stop: tells all ranks that this process received a stop request.
            ahead: copy the batch to an Ascend device without waiting for the previous step.
        """
        controls = np.array([rate, position, ema_decay, stop], np.float32)
        sources = [Tensor(np.array(array)) for array in (controls, *batch)]
        inputs = [source.to("Ascend", non_blocking=True) for source in sources] if ahead else sources
        return LaunchedStep(self(*inputs), sources)

    def run(self, batch: Sequence[np.ndarray], rate: float, position: int = 0, ema_decay: float = 0.0) -> StepReport:
        """Runs one step and waits for it; arguments as for `launch`."""
        return self.launch(batch, rate, position, ema_decay).read()

    def _scaled_loss(self, scale: Tensor, *batch: Tensor) -> tuple:
        total, losses = self.loss_cell(*batch)
        return total * scale, losses

    def construct(self, controls: Tensor, *batch: Tensor) -> Tensor:
        """Runs one step.

        Args:
            controls: float32 (4,): rate, position, ema_decay and stop of `launch`.
            batch: inputs of the loss cell.

        Returns:
            the report, float32 (2 * losses + 7,), which `StepReport.parse` reads: the losses, whether they and the
            statistics are finite, and stop, as means over all ranks; the same of this rank; gradient norm, whether the
            step is finite, loss scale.
        """
        rate, position, ema_decay, stop = controls[0], controls[1], controls[2], controls[3]
        scale = self.scale * 1
        before = self._read_written(scale)
        # The forward pass overwrites what is read here: it has to run afterwards.
        images = ops.depend(batch[0], before)
        (total, losses), gradients = self.grad(scale, images, *batch[1:])
        batch_statistics = self.statistics.from_gradients(gradients[len(self.weights) :])
        own_gradient = self.reducer.flatten_buckets(gradients[: len(self.weights)])
        after = self._read_written(own_gradient)
        finite = self._is_finite(total, after, batch_statistics, own_gradient)
        own = ops.stack((*losses, _as_float(finite), stop))
        gradient, shared = self.reducer(own_gradient, own)
        own_norm = _norm(gradient) * (self.options.loss_weight / scale)
        is_finite = ops.logical_and(ops.isfinite(own_norm), shared[-2] > 0.999)
        ok = is_finite
        if self.options.max_skips is not None:
            ok = ops.logical_and(is_finite, self.skips < self.options.max_skips)
        restored = (*self._write_back(ops.select(ok, after, before)), *self.statistics.update(batch_statistics, ok))
        gradient = self._gated(gradient, ok, self.options.loss_weight / scale)
        update, norm = ok, own_norm
        if self.options.accumulate_steps > 1:
            gradient, update = self._accumulate_window(gradient, ok, position)
            norm = ops.select(ok, _norm(gradient), own_norm)
        done = self._update_weights(gradient, norm, update, ops.depend(rate, restored), ema_decay)
        # The compiler drops an assignment that nothing depends on.
        assignments = (*done, *restored, *self._update_scale(ok))
        rest = ops.stack((norm, _as_float(is_finite), scale))
        return ops.depend(ops.concat((shared, own, rest)), assignments)

    def _read_written(self, ready: Tensor | tuple) -> Tensor:
        """Copies the parameters that the forward pass writes into one vector, after `ready` is computed; a single zero
        if there are none."""
        if len(self.written) == 0:
            return ops.zeros((1,), ms.float32)
        return concat_flat(ops.depend(self.written, ready))

    def _write_back(self, vector: Tensor) -> tuple:
        if len(self.written) == 0:
            return ()
        return _map(_write, self.written, self.written_parts(vector, self.written))

    def _is_finite(self, total: Tensor, written: Tensor, statistics: Tensor, gradient: tuple) -> Tensor:
        """Whether the loss and the statistics of this rank are finite.

        A gradient can be finite where the loss is not (a clamped value, a logarithm), and both can be where a variance
        is not (the normalised map becomes 0). The gradient is checked later, after the all-reduce.
        """
        finite = ops.isfinite(total + ops.reduce_sum(written * 0) + ops.reduce_sum(statistics * 0))
        if self.options.checks_status:
            finite = ops.logical_and(finite, amp.all_finite(gradient))
        return finite

    def _gated(self, vector: Tensor, is_open: Tensor, factor: Tensor) -> Tensor:
        """factor * vector, or zeros where the gate is closed: a product with 0 would keep NaN and inf."""
        return ops.select(is_open, vector * factor, ops.zeros_like(vector))

    def _accumulate_window(self, gradient: Tensor, ok: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        steps = self.options.accumulate_steps
        is_first = _as_float(position < 0.5)
        buffer = ops.assign(self.buffer, self.buffer * (1 - is_first) + gradient / steps)
        so_far = ops.maximum(self.window_ok, is_first)
        window_ok = ops.assign(self.window_ok, so_far * _as_float(ok))
        return buffer, ops.logical_and(window_ok > 0.5, position > steps - 1.5)

    def _update_weights(self, gradient: Tensor, norm: Tensor, update: Tensor, rate: Tensor, ema_decay: Tensor) -> tuple:
        on = _as_float(update)
        if self.options.clip_norm_each > 0:
            gradient = self._clip_each(gradient)
            norm = _norm(gradient)
        if self.options.clip_norm > 0:
            gradient = gradient * ops.minimum(self.options.clip_norm / (norm + 1e-6), ops.ones_like(norm))
        if self.options.weight_decay > 0:
            decayed = concat_flat(self.decayed) * self.options.weight_decay
            gradient = gradient + ops.concat((decayed, self.no_decay))
        momentum = on * self.options.momentum + (1 - on)
        velocity = ops.assign(self.velocity, self.velocity * momentum + gradient * on)
        done = _map(ops.partial(_descend, rate * on), self.weights, self.weight_parts(velocity, self.weights))
        if self.options.ema_decay > 0:
            now = concat_flat(ops.depend(self.averaged, done))
            if len(self.statistics.parameters):
                now = ops.concat((now, self.statistics.moving))
            done += (ops.assign(self.average, self.average + (now - self.average) * (on * (1 - ema_decay))),)
        return done

    def _clip_each(self, gradient: Tensor) -> Tensor:
        norms = ops.sqrt(ops.stack(_map(_sum_squares, self.weight_parts(gradient, self.weights))))
        factors = ops.minimum(self.options.clip_norm_each / (norms + 1e-6), ops.ones_like(norms))
        return gradient * ops.gather(factors, self.owner, 0)

    def _update_scale(self, ok: Tensor) -> tuple:
        on = _as_float(ok)
        skips = ops.assign(self.skips, (self.skips + 1) * (1 - on))
        if not self.options.dynamic_loss_scale:
            return (skips,)
        good = on * (self.good_steps + 1)
        is_full = _as_float(good >= self.options.scale_window)
        halved = ops.maximum(self.scale * 0.5, ops.ones_like(self.scale))
        scale = ops.assign(self.scale, on * self.scale * (1 + is_full) + (1 - on) * halved)
        return skips, scale, ops.assign(self.good_steps, good * (1 - is_full))

    def state(self) -> dict[str, np.ndarray]:
        """The state besides weights and moving averages: velocity, accumulation buffer, loss scale."""
        vectors = {f"{v.name}.{n}": part for v in self._vectors() for n, part in split_by_name(v, self.weights).items()}
        return {**vectors, **{p.name: p.asnumpy().copy() for p in self._scalars()}}

    def load_state(self, state: Mapping[str, np.ndarray], with_window: bool = True) -> None:
        """Restores what `state` returned.

        Args:
            state: of this step, or of one with other options.
            with_window: False starts a new accumulation window, for a run with another `accumulate_steps`.

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
            # A static scale comes from the options.
            scalars.append(self.scale)
        for scalar in scalars:
            scalar.set_data(Tensor(np.float32(np.reshape(state[scalar.name], ()))))
        # Checkpoints of earlier versions lack it.
        self.skips.set_data(Tensor(np.float32(np.reshape(state.get(self.skips.name, 0), ()))))

    def store_statistics(self) -> None:
        """Copies the batch-norm statistics into the network, see `BatchNormStatistics`; needed before its parameters
        are read."""
        self.statistics.store()

    def load_statistics(self) -> None:
        """Takes the batch-norm statistics from the network; needed after its parameters were set."""
        self.statistics.load()

    def averages(self) -> dict[str, np.ndarray]:
        """The moving averages by the names of their parameters; empty if `ema_decay` is 0."""
        return split_by_name(self.average, self._all_averaged()) if self.options.ema_decay > 0 else {}

    def load_averages(self, averages: Mapping[str, np.ndarray]) -> None:
        """Restores what `averages` returned.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a shape differs.
        """
        if self.options.ema_decay > 0:
            fill_vector(self.average, averages, self._all_averaged())

    def restart_averages(self) -> None:
        """Resets the moving averages to the current weights."""
        if self.options.ema_decay > 0:
            self.store_statistics()
            fill_vector(self.average, {p.name: p.asnumpy() for p in self._all_averaged()}, self._all_averaged())

    def _all_averaged(self) -> tuple[Parameter, ...]:
        return (*self.averaged, *self.statistics.parameters)

    def _vectors(self) -> tuple[Parameter, ...]:
        return (self.velocity, self.buffer) if self.options.accumulate_steps > 1 else (self.velocity,)

    def _scalars(self) -> tuple[Parameter, ...]:
        return self.scale, self.good_steps, self.window_ok, self.skips
