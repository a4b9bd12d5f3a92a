"""The assignment of boxes to anchors against a slow reference, with and without forced matches."""

import mindspore as ms
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mindspore import Tensor

from msdet.layers.box_matching import anchor_edges, batched_iou
from msdet.models.efficientdet_d0.anchors import make_anchors
from msdet.models.efficientdet_d0.matching import AnchorGrid, Matcher
from msdet.ops.boxes import cxcywh_to_xyxy, iou_matrix

ANCHORS = make_anchors(128, 128)
# Integer coordinates often tie, and 20 boxes are more than are matched at a time.
SIDE = st.integers(0, 140)
ROW = st.tuples(SIDE, SIDE, st.integers(1, 90), st.integers(1, 90), st.integers(-1, 2))
NONE = (0, 0, 1, 1, -1)


def slow_match(overlap):
    """Reference, from the IoU (M, A) of one image (-1 for padding): IoU, index of the box and `is_forced` of each
    anchor."""
    iou, row = overlap.max(0), overlap.argmax(0)
    forced = np.zeros(len(ANCHORS), bool)
    # In reverse order: if several boxes share an anchor, the first one gets it.
    for m in reversed(range(len(overlap))):
        best = overlap[m].argmax()
        if overlap[m, best] > 0:
            forced[best], row[best] = True, m
    return iou, row, forced


def match(matcher, boxes, labels):
    columns = tuple(Tensor(column) for column in np.ascontiguousarray(ANCHORS.T))
    found = matcher(columns, Tensor(boxes), Tensor(labels))
    return [array.asnumpy() for array in found]


@pytest.mark.usefixtures("uncompiled")
@settings(max_examples=40)
@given(st.lists(st.lists(ROW, max_size=20), min_size=1, max_size=2))
@example([[]])
@example([[NONE] * 20, [NONE, (10, 10, 5, 5, 1)]])
@example([[(40, 40, 3, 3, 1), (40, 40, 3, 3, 2)]])
@example([[(40, 40, 3, 3, 1)] + [NONE] * 16 + [(41, 41, 3, 3, 2), (60, 60, 40, 40, 0)]])
@example([[(140, 140, 50, 50, 0), (0, 0, 128, 128, 1)]])
def test_against_the_reference(images):
    count = max(1, *(len(rows) for rows in images), 0)
    table = np.array([rows + [NONE] * (count - len(rows)) for rows in images], np.float32)
    boxes, labels = (
        np.concatenate((table[..., :2], table[..., :2] + table[..., 2:4]), 2),
        table[..., 4].astype(np.int32),
    )
    # The same float32 IoU for both, so that both see the same ties.
    columns = tuple(Tensor(column) for column in np.ascontiguousarray(ANCHORS.T))
    overlap = batched_iou(anchor_edges(columns), Tensor(boxes), Tensor(labels)).asnumpy()
    forced_match, plain = match(Matcher(force_match=True), boxes, labels), match(Matcher(), boxes, labels)
    for n in range(len(boxes)):
        iou, row, forced = slow_match(overlap[n])
        real = boxes[n][labels[n] >= 0]
        exact = iou_matrix(cxcywh_to_xyxy(ANCHORS), real).max(1) if len(real) else np.full(len(ANCHORS), -1)
        np.testing.assert_allclose(iou, exact, rtol=1e-4, atol=1e-5)
        for expected, found in zip((iou, boxes[n, row], labels[n, row], forced), forced_match, strict=True):
            np.testing.assert_array_equal(found[n], expected)
        row = overlap[n].argmax(0)
        for expected, found in zip((iou, boxes[n, row], labels[n, row], 0 * forced), plain, strict=True):
            np.testing.assert_array_equal(found[n], expected)


@pytest.mark.usefixtures("uncompiled")
def test_the_first_of_two_boxes_gets_their_common_anchor():
    boxes = np.float32([[[44, 44, 47, 47], [44, 44, 46, 46], [2000, 2000, 2010, 2010], [60, 60, 99, 99]]])
    labels = np.int32([[1, 2, 0, -1]])
    iou, box, label, forced = match(Matcher(force_match=True), boxes, labels)
    assert forced.sum() == 1 and iou[forced] < 0.5
    np.testing.assert_array_equal(box[forced], boxes[0, :1])
    np.testing.assert_array_equal(label[forced], [1])


@pytest.mark.usefixtures("uncompiled")
def test_no_operator_is_deprecated(monkeypatch):
    """MindSpore logs them in training and may remove them."""
    named = set()
    monkeypatch.setattr("mindspore.common._decorator.DEPRECATE_SET", named)
    match(Matcher(force_match=True), np.array([[[0, 0, 40, 40.0]]]), np.zeros((1, 1), np.int32))
    assert not named


@pytest.mark.parametrize("size", [(128, 128), (256, 128), (128, 384)])
def test_anchors_computed_in_the_graph(size):
    class Grid(ms.nn.Cell):
        def __init__(self):
            super().__init__()
            self.grid = AnchorGrid()
            self.count = len(make_anchors(*size))

        def construct(self, size):
            return ms.ops.stack(self.grid(size, self.count), 1)

    np.testing.assert_array_equal(Grid()(Tensor(np.float32(size))).asnumpy(), make_anchors(*size))
