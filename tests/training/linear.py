"""A linear network and runs of its training step, for the tests of the step and its parts."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from msdet.training.step import TrainStep

RNG = np.random.default_rng(0)


START = RNG.standard_normal((3, 4)).astype(np.float32)


BIAS = RNG.standard_normal(3).astype(np.float32)


BATCHES = RNG.standard_normal((8, 5, 4)).astype(np.float32)


class Linear(nn.Cell):
    """Loss: mean of (x W^T + b)^2, and a second loss 0.5 * sum of b."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = nn.Dense(4, 3)
        self.network.weight.set_data(Tensor(START))
        self.network.bias.set_data(Tensor(BIAS))

    def construct(self, images):
        losses = (ops.reduce_mean(ops.square(self.network(images))), 0.5 * ops.reduce_sum(self.network.bias))
        return losses[0] + losses[1], losses


def run(options, batches=BATCHES, mode=ms.GRAPH_MODE, step=None, first=0):
    ms.set_context(mode=mode)
    step = step or TrainStep(Linear(), options)
    step.set_train()
    results = []
    for i, x in enumerate(batches, first):
        results.append(step.run([x], 0.1 / (i + 1), i % options.accumulate_steps, 0.8))
    ms.set_context(mode=ms.GRAPH_MODE)
    return step, results


def everything(step):
    """Everything that a step may change, by name."""
    network = {p.name: p.asnumpy().copy() for p in step.loss_cell.network.get_parameters()}
    return {**network, **step.state(), **{f"average of {name}": value for name, value in step.averages().items()}}


class MeanOfTwoRanks(nn.Cell):
    """The mean over two ranks, of which the other has zeros or the same values as this one."""

    def __init__(self, is_other_same):
        super().__init__()
        self.share = 1.0 if is_other_same else 0.5

    def construct(self, vector):
        return vector * self.share
