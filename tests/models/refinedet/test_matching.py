"""Matching, encoding and hard negatives of RefineDet against slow references."""

import numpy as np
import pytest
from mindspore import Tensor

from msdet.layers.box_matching import anchor_edges, batched_iou
from msdet.models.refinedet.anchors import CENTRE_UNIT, SIDE_UNIT, apply_regression, make_anchors
from msdet.models.refinedet.matching import HardNegatives, Matcher, encode

pytestmark = pytest.mark.usefixtures("uncompiled")

ANCHORS = make_anchors(64, 64)


def columns(images):
    return tuple(Tensor(np.tile(column, (images, 1))) for column in np.ascontiguousarray(ANCHORS.T))


def slow_match(iou, labels, threshold):
    """Index of the box of each anchor of one image, -1 for none; from the IoU (M, P)."""
    index = np.where(iou.max(0) >= threshold, iou.argmax(0), -1)
    for m in np.flatnonzero(labels >= 0):
        index[iou[m].argmax()] = m
    return index


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_matches_of_random_boxes(threshold):
    """More boxes than are matched at a time, with padding between them, and an image without boxes."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (2, 40, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(3, 40, (2, 40, 2))), 2).astype(np.float32)
    labels = rng.integers(-1, 3, (2, 40)).astype(np.int32)
    labels[1] = -1
    found = [x.asnumpy() for x in Matcher(threshold)(columns(2), Tensor(boxes), Tensor(labels))]
    # The same float32 IoU for both, since anchors of equal area often tie.
    edges = anchor_edges([Tensor(column[None, None]) for column in np.ascontiguousarray(ANCHORS.T)])
    iou = batched_iou(edges, Tensor(boxes), Tensor(labels)).asnumpy()
    for n in range(2):
        index = slow_match(iou[n], labels[n], threshold)
        matched = index >= 0
        np.testing.assert_array_equal(found[0][n], matched)
        np.testing.assert_array_equal(found[1][n][matched], boxes[n][index[matched]])
        np.testing.assert_array_equal(found[2][n][matched], labels[n][index[matched]])
    assert found[0][0].sum() > 10 and not found[0][1].any()


def test_the_later_of_two_boxes_gets_their_common_anchor():
    boxes = np.float32([[[30, 30, 33, 33], [30, 30, 33.5, 33.5]]])
    matched, _, label = (x.asnumpy() for x in Matcher()(columns(1), Tensor(boxes), Tensor(np.int32([[0, 1]]))))
    assert matched.sum() == 1 and label[matched].tolist() == [1]


def test_the_encoding_is_inverted_by_the_regression():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (1, len(ANCHORS), 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 30, corner.shape)), 2).astype(np.float32)
    regression = encode(columns(1), Tensor(boxes), CENTRE_UNIT, SIDE_UNIT)
    x, y, w, h = (side.asnumpy() for side in apply_regression(columns(1), regression))
    np.testing.assert_allclose(np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 2), boxes, atol=0.01)


def test_hard_negatives():
    """Of each image the candidates with the highest losses, at most `ratio` per positive."""
    rng = np.random.default_rng(0)
    losses = rng.uniform(0, 5, (3, 50)).astype(np.float32)
    candidates = rng.random((3, 50)) < 0.6
    positives = np.zeros((3, 50), np.float32)
    for n, count in enumerate((0, 4, 40)):
        positives[n, :count] = 1
    found = HardNegatives(2.0)(*map(Tensor, (losses, candidates, positives))).asnumpy()
    for n, count in enumerate((0, 4, 40)):
        order = sorted(np.flatnonzero(candidates[n]), key=lambda i, row=losses[n]: -row[i])
        assert set(np.flatnonzero(found[n])) == set(order[: 2 * count])
