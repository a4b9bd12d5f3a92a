"""Detections and batch-norm statistics of several ranks are gathered without loss."""

import numpy as np
import pytest

from msdet.evaluation.gather import pack_detections, unpack_detections, with_rank0_statistics
from msdet.ops.postprocess import Detections
from tests.evaluation.evaluators import SecondRank

pytestmark = pytest.mark.usefixtures("at_root")


def test_detections_and_unreadable_images_of_all_ranks_are_gathered():
    rng = np.random.default_rng(0)

    def some(count):
        boxes, labels = rng.uniform(0, 9, (count, 4)).astype(np.float32), rng.integers(0, 3, count).astype(np.int32)
        return Detections(boxes, rng.random(count, np.float32), labels)

    found = [some(2), None, some(0), some(1), None]
    shares = [pack_detections((i, found[i]) for i in rank) for rank in ((0, 2, 4), (1, 3))]
    again = list(unpack_detections(shares))
    assert [index for index, _ in again] == [0, 1, 2, 3, 4]
    for (_, one), other in zip(again, found, strict=True):
        if other is None:
            assert one is None
            continue
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_statistics_of_rank_0_replace_those_of_other_ranks():
    """Weights are equal on all ranks; batch-norm statistics depend on the images of each rank."""
    shapes = {"w": (2, 2), "mean": (3,), "var": (1, 2)}
    own = {name: np.full(shape, 7, np.float32) for name, shape in shapes.items()}
    merged = with_rank0_statistics(own, {"w"}, SecondRank("CPU", rank=1, group_size=2))
    assert merged.keys() == own.keys()
    np.testing.assert_array_equal(merged["w"], own["w"])
    np.testing.assert_array_equal(merged["mean"], np.ones(3))
    np.testing.assert_array_equal(merged["var"], np.ones((1, 2)))
