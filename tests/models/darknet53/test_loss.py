"""Smoothed cross-entropy against a slow reference, and its gradient against finite differences."""

import math

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor

from msdet.models.darknet53.loss import Probabilities, SmoothedCrossEntropy


@pytest.fixture(autouse=True, scope="module")
def _pynative():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def slow(logits, labels, smoothing):
    """Reference, class by class."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
        for k, value in enumerate(row):
            target = 1 - smoothing if k == label else smoothing / (len(row) - 1)
            total -= target * (value - norm)
    return total / len(labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(2, 9), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 99))
def test_against_the_reference(count, classes, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (count, classes)).astype(np.float32)
    labels = rng.integers(0, classes, count).astype(np.int32)
    (loss,) = SmoothedCrossEntropy(classes, smoothing)(Tensor(logits), Tensor(labels))
    assert float(loss) == pytest.approx(slow(logits, labels, smoothing), rel=1e-4, abs=1e-5)


def test_targets_of_smoothed_labels():
    """As in the published training with 1,000 classes: 0.9 and 0.1 / 999."""
    criterion = SmoothedCrossEntropy(1000, 0.1)
    assert (criterion.on, criterion.off) == pytest.approx((0.9, 0.1 / 999))
    assert criterion.loss_names == ("cross_entropy",)


def test_gradient():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 4)).astype(np.float32), np.int32([1, 3, 0])
    criterion = SmoothedCrossEntropy(4, 0.1)
    gradient = ms.grad(lambda x: criterion(x, Tensor(labels))[0])(Tensor(logits)).asnumpy()
    for i in range(3):
        for k in range(4):
            moved = [logits.astype(np.float64), logits.astype(np.float64)]
            moved[0][i, k] += 1e-5
            moved[1][i, k] -= 1e-5
            expected = (slow(moved[0], labels, 0.1) - slow(moved[1], labels, 0.1)) / 2e-5
            assert gradient[i, k] == pytest.approx(expected, abs=1e-4)


def test_half_precision_is_converted_to_float32():
    logits = Tensor(np.float16([[60000, 0.0]]))
    (loss,) = SmoothedCrossEntropy(2)(logits, Tensor(np.int32([0])))
    assert loss.dtype == ms.float32 and float(loss) == 0
    probabilities = Probabilities()(logits, (64, 64))
    assert probabilities.dtype == ms.float32 and probabilities.asnumpy().tolist() == [[1, 0]]
