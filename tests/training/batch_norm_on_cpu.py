"""A small network whose batch norms return their statistics as gradients, on a CPU."""

import numpy as np
from mindspore import Tensor, nn, ops

from msdet.training.device_layers import AclnnBatchNorm


class BatchNormOnCpu(AclnnBatchNorm):
    """`AclnnBatchNorm` with plain operators instead of the kernel, which a CPU does not have."""

    def construct(self, x, gamma, beta, mean, variance):
        batch_mean = ops.reduce_mean(x, (0, 2, 3))
        centred = x - ops.reshape(batch_mean, (1, -1, 1, 1))
        inverse = 1 / ops.sqrt(ops.reduce_mean(ops.square(centred), (0, 2, 3)) + self.eps)
        y = centred * ops.reshape(inverse * gamma, (1, -1, 1, 1)) + ops.reshape(beta, (1, -1, 1, 1))
        return (self.as_gradients(y, ops.stop_gradient(batch_mean), ops.stop_gradient(inverse), mean, variance),)


class Convolved(nn.Cell):
    """Two layers with batch norm; the loss is the mean of their squared output."""

    def __init__(self, as_gradients, frozen=False, eps=1e-3):
        super().__init__(auto_prefix=False)
        rng = np.random.default_rng(3)
        layers = [nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.8), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=eps)]
        self.network = nn.SequentialCell(*layers)
        for i in (0, 2):
            layers[i].weight.set_data(Tensor(rng.standard_normal(layers[i].weight.shape).astype(np.float32)))
        for norm in layers[1::2]:
            if frozen:
                norm.use_batch_statistics = False
            if as_gradients:
                norm.bn_train = BatchNormOnCpu(norm.eps)

    def construct(self, images):
        loss = ops.reduce_mean(ops.square(self.network(images) + 1))
        return loss, (loss,)
