"""The loss of EfficientDet against slow references, values of another implementation, and in edge cases."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from msdet.errors import UsageError
from msdet.models.efficientdet_d0.anchors import make_anchors
from msdet.models.efficientdet_d0.loss import EfficientDetCriterion, FocalLossAbsent
from msdet.ops.boxes import cxcywh_to_xyxy, iou_matrix

pytestmark = pytest.mark.usefixtures("graph_mode")

CLASSES = 3


def compiled(criterion):
    """Function: inputs of the criterion -> [class loss, box loss], gradients of their sum for regression and logits."""

    def total(regression, logits, boxes, labels, size):
        losses = criterion((regression, logits), boxes, labels, size)
        return losses[0] + losses[1], losses

    step = ms.value_and_grad(total, (0, 1), has_aux=True)

    def run(regression, logits, boxes, labels, size):
        arrays = (regression, logits, np.float32(boxes), np.int32(labels), np.float32(size))
        (_, losses), gradients = step(*[Tensor(array) for array in arrays])
        return [float(loss) for loss in losses], [g.asnumpy() for g in gradients]

    return run


@pytest.fixture(scope="module")
def port():
    """The criterion with the settings of the PyTorch port, compiled once for several tests."""
    ms.set_context(mode=ms.GRAPH_MODE)
    return compiled(EfficientDetCriterion(CLASSES))


def focal(x, present, gamma):
    p = 1 / (1 + np.exp(-x))
    return -0.25 * (1 - p) ** gamma * np.log(p) if present else -0.75 * p**gamma * np.log(1 - p)


def slow_losses(regression, logits, boxes, labels, size, gamma=2.0, kind="smooth_l1", beta=1 / 9, automl=False):
    """Reference, anchor by anchor and class by class."""
    anchors = make_anchors(*size).astype(np.float64)
    sums, counts = [], []
    for n in range(len(boxes)):
        real = boxes[n][labels[n] >= 0].astype(np.float64)
        classes = labels[n][labels[n] >= 0]
        iou = iou_matrix(cxcywh_to_xyxy(anchors), real) if len(real) else np.zeros((len(anchors), 1))
        owner = iou.argmax(1)
        forced = np.zeros(len(anchors), bool)
        for m in reversed(range(len(real) if automl else 0)):
            best = iou[:, m].argmax()
            forced[best], owner[best] = True, m
        class_sum = box_sum = count = 0
        for a, (cx, cy, w, h) in enumerate(anchors):
            best, overlap = owner[a], iou[a].max()
            positive = overlap >= 0.5 or forced[a]
            if 0.4 <= overlap < 0.5 and not automl:
                continue
            for c in range(CLASSES):
                class_sum += focal(float(logits[n, a, c]), positive and classes[best] == c, gamma)
            if positive:
                count += 1
                x1, y1, x2, y2 = real[best]
                wide, high = max(x2 - x1, 1), max(y2 - y1, 1)
                target = ((y1 + y2) / 2 - cy) / h, ((x1 + x2) / 2 - cx) / w, np.log(high / h), np.log(wide / w)
                for d in np.abs(np.array(target) - regression[n, a]):
                    loss = d * d / (2 * beta) if d <= beta else d - beta / 2
                    box_sum += loss * (beta if kind == "huber" else 1)
        sums.append((class_sum, box_sum * 50 / 4))
        counts.append(count)
    sums = np.array(sums)
    if automl:
        return sums.sum(0) / (sum(counts) + 1), counts
    return (sums / np.maximum(counts, 1)[:, None]).mean(0), counts


def random_case(boxes_per_image=(3, 0, 2), size=(128, 128), seed=0):
    rng = np.random.default_rng(seed)
    count = len(make_anchors(*size))
    regression = rng.standard_normal((len(boxes_per_image), count, 4)).astype(np.float32) * np.float32(0.3)
    logits = rng.standard_normal((len(boxes_per_image), count, CLASSES)).astype(np.float32) - 2
    # More boxes than are matched at a time.
    boxes = np.zeros((len(boxes_per_image), 20, 4), np.float32)
    labels = np.full((len(boxes_per_image), 20), -1, np.int32)
    for n, boxes_here in enumerate(boxes_per_image):
        rows = rng.permutation(20)[:boxes_here]
        start = rng.uniform(0, 60, (boxes_here, 2))
        boxes[n, rows] = np.concatenate((start, start + rng.uniform(25, 60, (boxes_here, 2))), 1)
        labels[n, rows] = rng.integers(0, CLASSES, boxes_here)
    return regression, logits, boxes, labels, size


def test_the_loss_of_the_port_against_the_reference(port):
    inputs = random_case()
    expected, counts = slow_losses(*inputs)
    assert counts[0] > 0 and counts[1] == 0 and counts[2] > 0
    np.testing.assert_allclose(port(*inputs)[0], expected, rtol=2e-5)


def test_the_loss_of_automl_against_the_reference():
    """Including small boxes, which only have forced anchors, and a batch without boxes."""
    options = {"focal_gamma": 1.5, "box_loss": "huber", "box_loss_beta": 0.1, "loss_normalizer": "batch",
               "negative_iou": 0.5, "force_match": True}  # fmt: skip
    run = compiled(EfficientDetCriterion(CLASSES, **options))
    for boxes_per_image, side in (((3, 0, 2), 1.0), ((3, 0, 2), 0.1), ((0, 0, 0), 1.0)):
        regression, logits, boxes, labels, size = random_case(boxes_per_image)
        boxes[..., 2:] = boxes[..., :2] + side * (boxes[..., 2:] - boxes[..., :2])
        expected, counts = slow_losses(regression, logits, boxes, labels, size, 1.5, "huber", 0.1, automl=True)
        assert sum(counts) >= sum(boxes_per_image)
        np.testing.assert_allclose(run(regression, logits, boxes, labels, size)[0], expected, rtol=2e-5)


def sum_in_lanes(vector, lanes=8):
    """Sums float32 values in eight lanes, as the norm of PyTorch did on the machine of the reference."""
    whole = vector[: len(vector) // lanes * lanes].reshape(-1, lanes)
    return np.cumsum(whole, axis=0, dtype=np.float32)[-1].sum()


def test_parity_of_losses_and_gradients(parity, parity_dir):
    reference, inputs = np.load(parity_dir / "losses.npz"), parity.loss_inputs(parity_dir / "losses.npz")
    rows = reference["eff_annotations"]
    labels = rows[..., 4].astype(np.int32)
    boxes = np.where(labels[..., None] >= 0, rows[..., :4], 0)
    losses, (of_regression, of_logits) = compiled(EfficientDetCriterion(90))(
        inputs["eff_regression"], inputs["eff_logits"], boxes, labels, (512, 512)
    )
    assert losses[0] == pytest.approx(float(reference["eff_cls_loss"][0]), rel=1e-4)
    assert losses[1] == pytest.approx(float(reference["eff_reg_loss"][0]), rel=1e-4)
    assert np.linalg.norm(of_regression) == pytest.approx(float(reference["eff_grad_reg_norm"]), rel=1e-4)
    # The norm of the reference, over 13 million float32 values, has an error of 2.7e-4 from its order of summation, so
    # that order is used here. The same formulas in PyTorch give 13.2578823 in float64 and 13.254321 in float32.
    norm = np.sqrt(sum_in_lanes(np.square(of_logits.ravel())))
    assert norm == pytest.approx(float(reference["eff_grad_logits_norm"]), rel=1e-4)
    assert np.linalg.norm(of_logits.astype(np.float64)) == pytest.approx(13.2578823, rel=1e-5)


def test_gradients_against_finite_differences(port):
    regression, logits, boxes, labels, size = random_case((2, 1, 0), seed=3)
    _, gradients = port(regression, logits, boxes, labels, size)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    values = []
    for sign in (1, -1):
        moved = [
            array + np.float32(sign * 1e-2 / norm) * g for array, g in zip((regression, logits), gradients, strict=True)
        ]
        values.append(sum(slow_losses(*moved, boxes, labels, size)[0]))
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(norm, rel=2e-3)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_the_explicit_gradient(gamma):
    x = np.linspace(-12, 12, 97)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    gradient = ms.grad(FocalLossAbsent(0.25, gamma))(Tensor(x.reshape(1, 1, -1).astype(np.float32)))
    ms.set_context(mode=ms.GRAPH_MODE)
    slope = (focal(x + 1e-5, False, gamma) - focal(x - 1e-5, False, gamma)) / 2e-5
    np.testing.assert_allclose(gradient.asnumpy().ravel(), slope, rtol=1e-4, atol=1e-7)


def test_extreme_logits_and_images_without_boxes_stay_finite(port):
    regression, logits, boxes, labels, size = random_case((0, 0, 0))
    for value in (-200.0, 200.0, 0.0):
        logits[...] = value
        losses, gradients = port(regression, logits, boxes, labels, size)
        assert np.isfinite(losses).all() and losses[1] == 0
        assert all(np.isfinite(g).all() for g in gradients)
    # The slope of -0.75 p^2 log(1 - p) at 0, for the mean of three images.
    np.testing.assert_allclose(gradients[1], 0.75 * 0.25 * (np.log(2) + 0.5) / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"box_loss": "l2"}, "box_loss is 'l2'"),
        ({"loss_normalizer": "anchors"}, "loss_normalizer"),
        ({"box_loss_beta": 0.0}, "box_loss_beta"),
        ({"negative_iou": 0.6}, "negative_iou"),
    ],
)
def test_arguments_out_of_range(options, fragment):
    with pytest.raises(UsageError, match=fragment):
        EfficientDetCriterion(**{"num_classes": CLASSES, **options})
