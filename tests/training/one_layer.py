"""A training of one layer, without files: its network, loader, trainer and hooks."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from msdet.checkpoints.state import CheckpointFolder, checkpoints_in, load_snapshot
from msdet.config import load_config
from msdet.data.loading.batch import Batch
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from msdet.training.hooks.checkpoints import SaveCheckpoints
from msdet.training.hooks.evaluation import Evaluate
from msdet.training.loop import Trainer
from msdet.training.step import StepOptions, TrainStep


class OneLayer(nn.Cell):
    """Loss: the mean of the layer's output; a pixel of 255 in the first image makes it infinite, with a finite
    gradient."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = nn.Dense(3, 1)

    def construct(self, images, valid_sizes, boxes, labels, size):
        pixels = ops.cast(images[:, 0, 0], ms.float32)
        loss = ops.reduce_mean(self.network(pixels / 255))
        peak = ops.stop_gradient(-ops.log(255 - ops.reduce_max(pixels[0])))
        return loss + peak, (loss, peak)


class Samples:
    def __getitem__(self, index):
        return type("Sample", (), {"image_path": f"train/{index}.jpg"})


class Loader:
    """Batches of two images; `actions` maps a step to a function that is called first and ends the epoch by True."""

    def __init__(self, steps=4, actions=None, bright=()):
        self.steps_per_epoch = steps
        self.actions = actions or {}
        self.bright = bright
        self.dataset = type("Dataset", (), {"samples": Samples()})
        self.boxes_cut = 0

    def start(self):
        pass

    def epoch(self, epoch, start=0):
        for number in range(start, self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + number
            if step in self.actions and self.actions[step]():
                return
            images = np.full((2, 1, 1, 3), 255 if step in self.bright else 7, np.uint8)
            geometry = [type("Geometry", (), {"valid_size": (1, 1)})] * 2
            boxes, labels = np.zeros((2, 2, 4), np.float32), np.int32([[1, -1], [-1, -1]])
            boxes[0, 0] = (1, 2, 3, 4)
            yield Batch(
                images=images, boxes=boxes, labels=labels, geometry=geometry, image_ids=[f"a{number}", f"b{number}"],
                size=(1, 1), indices=np.arange(2), epoch=epoch, number=number,
            )  # fmt: skip


def trainer(folder, loader, *flags, options=None, schedule=None, stop=None):
    cfg = load_config("configs/yolov3_shapes.yaml", ["--max_epoch", "2", *flags])
    step = TrainStep(OneLayer(), options or StepOptions())
    step.set_train()
    schedule = schedule or (lambda epoch, step: 0.01)
    return Trainer(cfg, Runtime("CPU"), step, ("mean", "peak"), loader, schedule, folder, {"model": "yolov3",
                   "class_names": ["red", "blue"]}, "data", stop or StopRequest())  # fmt: skip


def saving(folder, interval=1, keep=9):
    return SaveCheckpoints(CheckpointFolder(folder / "ckpt_0", "yolov3", keep), interval)


def scoring(saver, evaluate, best=None):
    """The hooks that save and evaluate each epoch."""
    return [saver, Evaluate(evaluate, saver, 1, 1, best, [])]


def resumed(folder, loader, *flags, **options):
    newest = next(checkpoints_in(folder / "ckpt_0"))
    mine = trainer(folder, loader, *flags, **options)
    mine.restore(load_snapshot(newest), newest)
    return mine


def steps_in(folder):
    return sorted(load_snapshot(path).progress["step"] for path in checkpoints_in(folder / "ckpt_0"))
