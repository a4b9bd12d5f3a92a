"""Overlaps in the graph against numpy's: anchors of all images or of each, padding, what has no area; and places that
several boxes want."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.layers.box_matching import count_up, overlaps, put_at, sides_of, winners
from msdet.ops.boxes import cxcywh_to_xyxy, iou_matrix

pytestmark = pytest.mark.usefixtures("graph_mode")


class Overlaps(nn.Cell):
    def construct(self, anchors, boxes, labels):
        sides = sides_of((anchors[..., 0], anchors[..., 1], anchors[..., 2], anchors[..., 3]))
        return overlaps(sides, boxes, labels)


def drawn(*shape):
    """Boxes cxcywh about an image of 100 px."""
    rng = np.random.default_rng(len(shape))
    return np.concatenate((rng.uniform(-20, 120, (*shape, 2)), rng.uniform(0.5, 80, (*shape, 2))), -1)


@pytest.mark.parametrize("shape", [(7,), (3, 1, 7)], ids=["of all images", "of each image"])
def test_overlaps_of_a_batch(shape):
    anchors, boxes = drawn(*shape), cxcywh_to_xyxy(drawn(3, 5))
    labels = np.array([[0, 2, 1, 1, 0], [3, -1, 0, -1, -1], [-1, -1, -1, -1, -1]])
    boxes[labels < 0] = 0
    # A box that is an anchor.
    boxes[0, 1] = cxcywh_to_xyxy(anchors.reshape(-1, 4)[4])
    found = Overlaps()(*map(Tensor, (np.float32(anchors), np.float32(boxes), np.int32(labels)))).asnumpy()
    assert found.shape == (3, 5, 7) and found.dtype == np.float32
    for n, own in enumerate(np.broadcast_to(anchors.reshape(-1, 7, 4), (3, 7, 4))):
        expected = np.where(labels[n, :, None] >= 0, iou_matrix(boxes[n], cxcywh_to_xyxy(own)), -1)
        np.testing.assert_allclose(found[n], expected, rtol=1e-5, atol=1e-6)
    assert found[0, 1, 4] == pytest.approx(1, abs=1e-6) and (found > 0).any((1, 2)).sum() == 2


def test_what_has_no_area_overlaps_nothing():
    """Neither 0 / 0 of a point on a point nor padding upon it is NaN."""
    anchors = np.float32([[10, 10, 0, 0], [10, 10, 4, 4], [10, 10, 0, 4]])
    boxes, labels = np.float32([[[10, 10, 10, 10], [8, 8, 12, 12], [10, 10, 10, 10]]]), np.int32([[0, 0, -1]])
    found = Overlaps()(*map(Tensor, (anchors, boxes, labels))).asnumpy()
    np.testing.assert_allclose(found[0], [[0, 0, 0], [0, 1, 0], [-1, -1, -1]], atol=1e-6)


def test_counting_up():
    class Count(nn.Cell):
        def construct(self, x):
            return count_up(x.shape[0])

    found = Count()(Tensor(np.zeros((4, 2), np.float32)))
    assert found.dtype == ms.int32
    np.testing.assert_array_equal(found.asnumpy(), [0, 1, 2, 3])


@pytest.mark.parametrize("slots", [1, 9])
def test_the_later_box_wins(slots):
    rng = np.random.default_rng(slots)
    place = rng.integers(0, 6, (4, 12, slots)).astype(np.int32)
    positive = rng.random((4, 12, slots)) < 0.6
    got = winners(Tensor(place), Tensor(positive)).asnumpy()
    expected = np.zeros_like(positive)
    for n, s in np.ndindex(4, slots):
        last = {place[n, m, s]: m for m in range(12) if positive[n, m, s]}
        expected[n, list(last.values()), s] = True
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def test_what_is_put_is_overwritten_by_nothing_that_is_not(dtype, mode):
    """Also where many that are not put have the place of one that is."""
    ms.set_context(mode=mode)
    rng = np.random.default_rng(0)
    place = rng.integers(0, 9, (5, 40)).astype(np.int32)
    values = rng.integers(1, 99, (5, 40)).astype(dtype)
    is_put, expected = np.zeros((5, 40), bool), np.zeros((5, 9), dtype)
    for n in range(5):
        # The first of one place, the last of the next: what is not put stands on either side.
        for where in rng.permutation(9)[:6]:
            found = np.flatnonzero(place[n] == where)
            if len(found):
                chosen = found[0 if where % 2 else -1]
                is_put[n, chosen], expected[n, where] = True, values[n, chosen]
    got = put_at(*map(Tensor, (np.full_like(expected, 7), place, values, is_put)))
    np.testing.assert_array_equal(got.asnumpy(), expected)
