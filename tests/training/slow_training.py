"""A training of a small network by the program, and its float64 reference, step by step.

The network is a convolution, batch norm, a weighted sum (`fusion`) of the normalized map and its tanh, and a
convolution with bias, all 1x1. Gradients of the slow version are complex-step derivatives: exact, one weight at a time.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from msdet.config import load_config
from msdet.data.dataset import DetectionDataset
from msdet.data.loading.batch import Batch
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from msdet.training.loop import Hook
from msdet.training.train import _trainer

BN_MOMENTUM, BN_EPS = 0.8, 1e-3
IMAGES, SIDE = 4, 2
LOSS_NAMES = ("error", "size")
# Far from the defaults, so that a key that is lost on its way changes the result.
BASE = {
    "max_epoch": 4, "lr": 0.05, "lr_scheduler": "cosine_annealing", "lr_epochs": "1,3", "lr_gamma": 0.1, "eta_min": 0.0,
    "t_max": 4, "warmup_epochs": 0.0, "lr_warmup_init": 0.0, "momentum": 0.9, "weight_decay": 0.0,
    "decay_norm_and_bias": False, "loss_weight": 1.0, "clip_grad_norm": 0.0, "clip_grad_norm_each": 0.0,
    "accumulate_steps": 1, "ema_decay": 0.0, "freeze_bn": False,
}  # fmt: skip


def initial_weights() -> dict[str, np.ndarray]:
    """Float32 initial weights without any symmetry."""
    rng = np.random.default_rng(5)
    shapes = {"conv.weight": (4, 3, 1, 1), "head.weight": (2, 4, 1, 1), "head.bias": (2,), "fusion": (2,)}
    values = {name: rng.normal(0, 0.8, shape) for name, shape in shapes.items()}
    values |= {"norm.gamma": rng.uniform(0.5, 1.5, 4), "norm.beta": rng.normal(0, 0.5, 4)}
    values |= {"norm.moving_mean": rng.normal(0, 0.2, 4), "norm.moving_variance": rng.uniform(0.2, 0.6, 4)}
    return {name: value.astype(np.float32) for name, value in values.items()}


class Network(nn.Cell):
    """(N, 3, h, w) -> (N, 2, h, w)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4, BN_EPS, BN_MOMENTUM)
        self.fusion = ms.Parameter(ops.ones((2,), ms.float32), name="fusion")
        self.head = nn.Conv2d(4, 2, 1, has_bias=True)
        values = initial_weights()
        for parameter in self.get_parameters():
            parameter.set_data(Tensor(values[parameter.name]))

    def construct(self, x):
        x = self.norm(self.conv(x))
        mixed = ops.tanh(x) * ops.cast(self.fusion[0], x.dtype) + x * ops.cast(self.fusion[1], x.dtype)
        return self.head(mixed)


class Preprocess(nn.Cell):
    """Images in 0..1; a valid size of 0 makes them infinite."""

    def construct(self, images, valid_sizes):
        x = ops.cast(ops.transpose(images, (0, 3, 1, 2)), ms.float32) / 255
        return x / ops.cast(ops.reshape(valid_sizes[:, 0] / SIDE, (-1, 1, 1, 1)), ms.float32)


class Criterion(nn.Cell):
    """Squared distance of each output from the image's label, and the mean of their fourth powers."""

    loss_names = LOSS_NAMES

    def construct(self, outputs, boxes, labels, size):
        outputs = ops.cast(outputs, ms.float32)
        wanted = ops.cast(ops.reshape(labels, (-1, 2, 1, 1)), ms.float32)
        return ops.reduce_mean(ops.square(outputs - wanted)), 0.1 * ops.reduce_mean(ops.square(ops.square(outputs)))


class StubRecipe:
    """The part of a recipe that `_trainer` uses."""

    def __init__(self, criterion=Criterion):
        self.build_preprocess, self.build_criterion, self.build_network = Preprocess, criterion, Network

    def card(self, category_ids):
        return {"model": "yolov3", "class_names": ["red"], "category_ids": category_ids}


def images_and_labels(step):
    """uint8 (N, h, w, 3) and int32 (N, 2) of a step since the start."""
    rng = np.random.default_rng((7, step))
    return rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8), rng.integers(-2, 3, (IMAGES, 2), np.int32)


class Loader:
    """Batches of `images_and_labels`; the steps in `non_finite` have a non-finite loss."""

    def __init__(self, steps, non_finite=()):
        self.steps_per_epoch = steps
        self.non_finite = non_finite
        self.boxes_cut = 0
        samples = [SimpleNamespace(image_path=Path(f"{i}.jpg")) for i in range(IMAGES)]
        self.dataset = SimpleNamespace(samples=samples)

    def start(self):
        pass

    def epoch(self, epoch, start=0):
        for number in range(start, self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + number
            images, labels = images_and_labels(step)
            side = 0 if step in self.non_finite else SIDE
            yield Batch(
                images=images, boxes=np.zeros((IMAGES, 2, 4), np.float32), labels=labels,
                geometry=[SimpleNamespace(valid_size=(side, side))] * IMAGES, size=(SIDE, SIDE),
                image_ids=[f"image {i}" for i in range(IMAGES)], indices=np.arange(IMAGES), epoch=epoch, number=number,
            )  # fmt: skip


class Notes(Hook):
    """Collects the result of every step."""

    def __init__(self):
        self.results = []

    def after_step(self, trainer):
        self.results.append(trainer.result)


def trainer_of(keys, folder, steps_per_epoch=3, non_finite=(), recipe=None):
    """The trainer of `msdet train` for `BASE` and other keys, with the network above."""
    flags = [f"--{name}={value}" for name, value in {**BASE, **keys}.items()]
    cfg = load_config("configs/yolov3_shapes.yaml", flags)
    recipe = recipe or StubRecipe()
    dataset = DetectionDataset([], ["red"], [1], Path("train.json"), Path("train"))
    loader = Loader(steps_per_epoch, non_finite)
    session = SimpleNamespace(cfg=cfg, recipe=recipe, dataset=dataset, runtime=Runtime("CPU"), stop=StopRequest())
    return _trainer(session, recipe.build_network(), loader, folder)


class Slow:
    """The reference: the same training in float64.

    Attributes:
        weights, velocity, averages: name -> array, after all steps.
        results: of each step, named as those of `StepResult`.
    """

    def __init__(self, keys, steps_per_epoch=3):
        self.keys = {**BASE, **keys}
        self.steps_per_epoch = steps_per_epoch
        self.weights = {name: value.astype(np.float64) for name, value in initial_weights().items()}
        self.averages = {name: value.copy() for name, value in self.weights.items()}
        self.velocity = {name: 0 * value for name, value in self.weights.items() if "moving" not in name}
        self.results = []
        window = []
        for step in range(self.keys["max_epoch"] * steps_per_epoch):
            window = self.one_step(step, window)

    def losses(self, weights, step):
        """The two losses, and mean and unbiased variance of the map that batch norm takes."""
        images, labels = images_and_labels(step)
        x = images.transpose(0, 3, 1, 2) / 255
        x = np.einsum("oc,nchw->nohw", weights["conv.weight"][:, :, 0, 0], x)
        mean, variance = x.mean((0, 2, 3)), x.swapaxes(0, 1).reshape(4, -1)
        variance = ((variance - mean[:, None]) ** 2).mean(1)
        count = IMAGES * SIDE * SIDE
        seen = mean, variance * count / (count - 1)
        if self.keys["freeze_bn"]:
            mean, variance = weights["norm.moving_mean"], weights["norm.moving_variance"]
        x = (x - mean[:, None, None]) / np.sqrt(variance + BN_EPS)[:, None, None]
        x = x * weights["norm.gamma"][:, None, None] + weights["norm.beta"][:, None, None]
        x = np.tanh(x) * weights["fusion"][0] + x * weights["fusion"][1]
        x = np.einsum("oc,nchw->nohw", weights["head.weight"][:, :, 0, 0], x) + weights["head.bias"][:, None, None]
        return (((x - labels[:, :, None, None]) ** 2).mean(), 0.1 * (x**4).mean()), seen

    def gradient(self, step):
        """Of the sum of the losses, by name."""
        found = {}
        for name in self.velocity:
            found[name] = np.zeros(self.weights[name].shape)
            for place in np.ndindex(found[name].shape):
                moved = self.weights[name].astype(complex)
                moved[place] += 1e-30j
                found[name][place] = sum(self.losses({**self.weights, name: moved}, step)[0]).imag / 1e-30
        return found

    def one_step(self, step, window):
        """Runs one step; `window` holds the accumulated gradients, and the new window is returned."""
        keys, weights = self.keys, self.weights
        rate = slow_rate(keys, step, self.steps_per_epoch)
        losses, (mean, variance) = self.losses(weights, step)
        gradient = {name: value * keys["loss_weight"] for name, value in self.gradient(step).items()}
        if not keys["freeze_bn"]:
            for name, value in (("norm.moving_mean", mean), ("norm.moving_variance", variance)):
                weights[name] = BN_MOMENTUM * weights[name] + (1 - BN_MOMENTUM) * value
        window = [*window, gradient]
        gradient = {name: sum(g[name] for g in window) / keys["accumulate_steps"] for name in gradient}
        self.results.append(
            SimpleNamespace(loss=sum(losses), losses=losses, rate=rate, gradient_norm=norm(gradient.values()))
        )
        if len(window) < keys["accumulate_steps"]:
            return window
        self.update(gradient, rate, min(keys["ema_decay"], (1 + step) / (10 + step)))
        return []

    def update(self, gradient, rate, ema_decay):
        keys = self.keys
        if keys["clip_grad_norm_each"]:
            gradient = {n: g * min(1, keys["clip_grad_norm_each"] / norm([g])) for n, g in gradient.items()}
        if keys["clip_grad_norm"]:
            factor = min(1, keys["clip_grad_norm"] / norm(gradient.values()))
            gradient = {name: value * factor for name, value in gradient.items()}
        for name, value in gradient.items():
            has_decay = keys["decay_norm_and_bias"] or name in ("conv.weight", "head.weight")
            value = value + keys["weight_decay"] * has_decay * self.weights[name]
            self.velocity[name] = keys["momentum"] * self.velocity[name] + value
            self.weights[name] = self.weights[name] - rate * self.velocity[name]
        for name, value in self.weights.items():
            self.averages[name] = ema_decay * self.averages[name] + (1 - ema_decay) * value


def norm(arrays):
    """L2 norm of several arrays together."""
    return math.sqrt(sum((array**2).sum() for array in arrays))


def slow_rate(keys, step, steps_per_epoch):
    """Learning rate of a step since the start, by the rules of docs/reference/keys.md."""
    lr, low, count = keys["lr"], keys["eta_min"], keys["max_epoch"]
    warmup = round(keys["warmup_epochs"] * steps_per_epoch)
    if step < warmup:
        first = keys["lr_warmup_init"]
        return first + (lr - first) * step / warmup if first else lr * (step + 1) / warmup
    epoch = step // steps_per_epoch

    def cosine(top, share):
        return low + (top - low) * (1 + math.cos(math.pi * share)) / 2

    if keys["lr_scheduler"] == "exponential":
        return lr * keys["lr_gamma"] ** sum(int(milestone) <= epoch for milestone in keys["lr_epochs"].split(","))
    if keys["lr_scheduler"] == "cosine_annealing":
        return cosine(lr, epoch / max(keys["t_max"], count))
    if keys["lr_scheduler"] == "cosine_per_step":
        return cosine(lr, step / steps_per_epoch / (count - keys["warmup_epochs"]))
    if keys["lr_scheduler"] == "cosine_annealing_V2":
        turn = max(e for e in range(count) if 3 * e < 2 * count)
        first = cosine(lr, min(epoch, turn) / keys["t_max"])
        return first if epoch <= turn else cosine(first, (epoch - turn) / (count // 3))
    kept = [e for e in range(count + 60) if not 60 <= e < 180 or e % 2]
    return cosine(lr, kept[epoch] / (count + 60))
