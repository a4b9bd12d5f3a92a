"""Constants of the cells of YOLO maps, for static and dynamic shapes, against a slow reference."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.models.yolo.decoder import STRIDES, anchors_by_map
from msdet.models.yolo.grid import CellGrid

ANCHORS = anchors_by_map([(1 + i, 20 - i) for i in range(9)])
SCALES = (1.05, 1.1, 1.2)
SIZES = ((2, 3), (4, 6), (8, 12))


class GridOfThreeMaps(nn.Cell):
    def __init__(self):
        super().__init__()
        self.grid = CellGrid(ANCHORS, SCALES)

    def construct(self, first, second, third):
        return self.grid([first.shape[2:], second.shape[2:], third.shape[2:]])


@pytest.mark.parametrize("is_dynamic", [False, True], ids=["static", "dynamic"])
def test_the_constants_of_the_cells(is_dynamic):
    cells = GridOfThreeMaps()
    if is_dynamic:
        cells.set_inputs(*[Tensor(shape=[None, 1, None, None], dtype=ms.float32)] * 3)
    got = [x.asnumpy() for x in cells(*[Tensor(np.zeros((1, 1, *size), np.float32)) for size in SIZES])]
    places = [(number, y, x) for number, (h, w) in enumerate(SIZES) for y in range(h) for x in range(w)]
    expected = (
        [x for _, _, x in places],
        [y for _, y, _ in places],
        [[ANCHORS[number, i, 0] for number, _, _ in places] for i in range(3)],
        [[ANCHORS[number, i, 1] for number, _, _ in places] for i in range(3)],
        [STRIDES[number] for number, _, _ in places],
        np.float32([SCALES[number] for number, _, _ in places]),
        [number for number, _, _ in places],
    )
    for mine, right in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine, right)
    assert got[-1].dtype == np.int32
