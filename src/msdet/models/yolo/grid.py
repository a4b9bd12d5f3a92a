"""Constants of the cells of the three YOLO maps, concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.ops import functional

from msdet.models.yolo.decoder import STRIDES


class CellGrid(nn.Cell):
    """Sizes (h, w) of the maps of strides 32, 16, 8 -> constants of their cells, ordered by map, row and column.

    If the sizes are known when the graph is compiled, the results are constants of the graph, else they are computed.

    Args:
        anchors: (3, 3, 2) as `anchors_by_map` gives them.
        scales: of the maps, see `decode_corners`.
    """

    def __init__(self, anchors: np.ndarray, scales: Sequence[float]) -> None:
        super().__init__()
        # (3, 1) per map.
        self.widths = tuple(ms.Tensor(group[:, :1]) for group in anchors)
        self.heights = tuple(ms.Tensor(group[:, 1:]) for group in anchors)
        self.anchors = tuple(tuple(map(tuple, group.tolist())) for group in anchors)
        self.scales = tuple(scales)

    def construct(self, sizes: list) -> tuple:
        """Returns column and row, float32 (cells,); width and height of the anchors in px, (3, cells); stride and
        scale, (cells,); index of the map in STRIDES, int32 (cells,)."""
        if functional.isconstant(sizes[0][0]):
            return _constants(sizes, self.anchors, self.scales)
        ones, columns, rows = [], [], []
        for height, width in sizes:
            index = ops.cast(ops.arange(height * width), ms.float32)
            # Adding 0.5 avoids quotients near integers, where rounding could move a cell to another row.
            row = ops.floor((index + 0.5) / width)
            ones.append(ops.ones_like(index))
            columns.append(index - row * width)
            rows.append(row)
        maps = range(len(STRIDES))
        return (
            ops.concat(columns),
            ops.concat(rows),
            ops.concat([self.widths[i] * ones[i] for i in maps], 1),
            ops.concat([self.heights[i] * ones[i] for i in maps], 1),
            ops.concat([ones[i] * STRIDES[i] for i in maps]),
            ops.concat([ones[i] * self.scales[i] for i in maps]),
            ops.cast(ops.concat([ones[i] * i for i in maps]), ms.int32),
        )


@ops.constexpr
def _constants(sizes: Sequence, anchors: Sequence, scales: Sequence[float]) -> tuple[ms.Tensor, ...]:
    counts = [height * width for height, width in sizes]
    places = [np.divmod(np.arange(height * width), width) for height, width in sizes]
    of_anchors = np.repeat(np.array(anchors, np.float32), counts, 0)  # (cells, 3, 2)
    arrays = (
        np.concatenate([column for _, column in places]).astype(np.float32),
        np.concatenate([row for row, _ in places]).astype(np.float32),
        of_anchors[..., 0].T.copy(),
        of_anchors[..., 1].T.copy(),
        np.repeat(np.array(STRIDES, np.float32), counts),
        np.repeat(np.array(scales, np.float32), counts),
        np.repeat(np.arange(len(counts), dtype=np.int32), counts),
    )
    return tuple(ms.Tensor(array) for array in arrays)
