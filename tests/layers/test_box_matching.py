"""Batched IoU against numpy (anchors shared by all images or one set per image, padding, zero area); conflicts between
boxes; masked scatter."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.layers.box_matching import anchor_edges, batched_iou, constant_arange, scatter_masked, winning_slots
from msdet.ops.boxes import cxcywh_to_xyxy, iou_matrix

pytestmark = pytest.mark.usefixtures("graph_mode")


class BatchedIou(nn.Cell):
    def construct(self, anchors, boxes, labels):
        edges = anchor_edges((anchors[..., 0], anchors[..., 1], anchors[..., 2], anchors[..., 3]))
        return batched_iou(edges, boxes, labels)


def random_boxes(*shape):
    """Boxes cxcywh in and around an image of 100 px."""
    rng = np.random.default_rng(len(shape))
    return np.concatenate((rng.uniform(-20, 120, (*shape, 2)), rng.uniform(0.5, 80, (*shape, 2))), -1)


@pytest.mark.parametrize("shape", [(7,), (3, 1, 7)], ids=["shared by all images", "one set per image"])
def test_batched_iou(shape):
    anchors, boxes = random_boxes(*shape), cxcywh_to_xyxy(random_boxes(3, 5))
    labels = np.array([[0, 2, 1, 1, 0], [3, -1, 0, -1, -1], [-1, -1, -1, -1, -1]])
    boxes[labels < 0] = 0
    # A box that equals an anchor.
    boxes[0, 1] = cxcywh_to_xyxy(anchors.reshape(-1, 4)[4])
    found = BatchedIou()(*map(Tensor, (np.float32(anchors), np.float32(boxes), np.int32(labels)))).asnumpy()
    assert found.shape == (3, 5, 7) and found.dtype == np.float32
    for n, own in enumerate(np.broadcast_to(anchors.reshape(-1, 7, 4), (3, 7, 4))):
        expected = np.where(labels[n, :, None] >= 0, iou_matrix(boxes[n], cxcywh_to_xyxy(own)), -1)
        np.testing.assert_allclose(found[n], expected, rtol=1e-5, atol=1e-6)
    assert found[0, 1, 4] == pytest.approx(1, abs=1e-6) and (found > 0).any((1, 2)).sum() == 2


def test_boxes_without_area_have_an_iou_of_zero():
    """Neither 0 / 0 nor padding gives NaN."""
    anchors = np.float32([[10, 10, 0, 0], [10, 10, 4, 4], [10, 10, 0, 4]])
    boxes, labels = np.float32([[[10, 10, 10, 10], [8, 8, 12, 12], [10, 10, 10, 10]]]), np.int32([[0, 0, -1]])
    found = BatchedIou()(*map(Tensor, (anchors, boxes, labels))).asnumpy()
    np.testing.assert_allclose(found[0], [[0, 0, 0], [0, 1, 0], [-1, -1, -1]], atol=1e-6)


def test_constant_arange():
    class Arange(nn.Cell):
        def construct(self, x):
            return constant_arange(x.shape[0])

    found = Arange()(Tensor(np.zeros((4, 2), np.float32)))
    assert found.dtype == ms.int32
    np.testing.assert_array_equal(found.asnumpy(), [0, 1, 2, 3])


@pytest.mark.parametrize("slots", [1, 9])
def test_the_last_box_wins(slots):
    rng = np.random.default_rng(slots)
    place = rng.integers(0, 6, (4, 12, slots)).astype(np.int32)
    positive = rng.random((4, 12, slots)) < 0.6
    got = winning_slots(Tensor(place), Tensor(positive)).asnumpy()
    expected = np.zeros_like(positive)
    for n, s in np.ndindex(4, slots):
        last = {place[n, m, s]: m for m in range(12) if positive[n, m, s]}
        expected[n, list(last.values()), s] = True
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def test_masked_values_do_not_overwrite_selected_ones(dtype, mode):
    """Many unselected values share the place of a selected one."""
    ms.set_context(mode=mode)
    rng = np.random.default_rng(0)
    place = rng.integers(0, 9, (5, 40)).astype(np.int32)
    values = rng.integers(1, 99, (5, 40)).astype(dtype)
    mask, expected = np.zeros((5, 40), bool), np.zeros((5, 9), dtype)
    for n in range(5):
        # The first value of one place, the last of the next: unselected values come before and after.
        for where in rng.permutation(9)[:6]:
            found = np.flatnonzero(place[n] == where)
            if len(found):
                chosen = found[0 if where % 2 else -1]
                mask[n, chosen], expected[n, where] = True, values[n, chosen]
    got = scatter_masked(*map(Tensor, (np.full_like(expected, 7), place, values, mask)))
    np.testing.assert_array_equal(got.asnumpy(), expected)
