"""Training cost of depthwise convolutions on a CPU, ours against the library's: `python -m benchmarks.depthwise`.

Forward pass and both gradients for the layer shapes of EfficientDet-D0 at 512 px; the results are compared before
anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from benchmarks.side_by_side import alternate
from msdet.models.efficientdet_d0.depthwise import DepthwiseConv

# channels, side of the map, kernel, stride
SHAPES = ((32, 256, 3, 1), (96, 256, 3, 2), (144, 128, 5, 2), (240, 64, 5, 1), (672, 32, 5, 1), (64, 64, 3, 1))


def gradient_of(conv: nn.Cell, x: Tensor) -> Callable[[], tuple]:
    """A function that returns the gradients of input and weights of the sum of squares, as numpy arrays."""
    conv.set_train()

    def loss(x: Tensor) -> Tensor:
        return ops.reduce_sum(ops.square(conv(x)))

    step = ms.grad(loss, 0, conv.trainable_params())

    def run() -> tuple:
        of_x, (of_weight,) = step(x)
        return of_x.asnumpy(), of_weight.asnumpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    rng = np.random.default_rng(0)
    print(f"{'channels x side, kernel / stride':<36}{'ours s':>8}{'library s':>11}{'ratio':>7}")
    for channels, side, kernel, stride in SHAPES:
        x = Tensor(rng.standard_normal((args.batch, channels, side, side), dtype=np.float32))
        ours = DepthwiseConv(channels, kernel, stride)
        library = nn.Conv2d(channels, channels, kernel, stride, pad_mode="same", group=channels)
        library.weight.set_data(Tensor(ours.weight.asnumpy()))
        first, second = gradient_of(ours, x), gradient_of(library, x)
        for a, b in zip(first(), second(), strict=True):
            assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)
        mine, theirs = alternate(first, second, args.rounds)
        name = f"{channels} x {side}, {kernel} / {stride}"
        print(f"{name:<36}{mine:>8.3f}{theirs:>11.3f}{theirs / mine:>6.1f}x", flush=True)


if __name__ == "__main__":
    main()
