"""Overlaps in the graph against numpy's: anchors of all images or of each, padding, what has no area."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.common.boxes import cxcywh_to_xyxy, iou_matrix
from src.common.matching import count_up, overlaps, sides_of

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
