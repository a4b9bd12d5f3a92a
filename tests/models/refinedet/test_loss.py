"""The loss of RefineDet: parity, a slow reference for both kinds of mining, gradients, batches without boxes."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.errors import UsageError
from msdet.models.refinedet.anchors import make_anchors
from msdet.models.refinedet.loss import RefineDetCriterion
from msdet.ops.boxes import cxcywh_to_xyxy, iou_matrix, xyxy_to_cxcywh

pytestmark = pytest.mark.usefixtures("graph_mode")

SIZE = (64, 128)
CLASSES = 3


class Sum(nn.Cell):
    """Sum of the losses and the losses, with the maps as separate inputs so that each has a gradient."""

    def __init__(self, criterion):
        super().__init__()
        self.criterion = criterion
        self.size = criterion.image_size

    def construct(self, arm_loc, arm_conf, odm_loc, odm_conf, boxes, labels):
        losses = self.criterion((arm_loc, arm_conf, odm_loc, odm_conf), boxes, labels, self.size)
        return losses[0] + losses[1] + losses[2] + losses[3], losses


def losses_of(criterion, maps, boxes, labels):
    """Losses and gradients as numpy arrays."""
    run = ms.value_and_grad(Sum(criterion), (0, 1, 2, 3), None, has_aux=True)
    tensors = [Tensor(np.asarray(map_, np.float32)) for map_ in maps]
    (_, losses), gradients = run(*tensors, Tensor(boxes.astype(np.float32)), Tensor(labels.astype(np.int32)))
    return np.array([float(loss) for loss in losses]), [gradient.asnumpy() for gradient in gradients]


def test_parity_of_values_and_gradients(parity, parity_dir):
    reference = np.load(parity_dir / "losses.npz")
    inputs = parity.loss_inputs(parity_dir / "losses.npz")
    annotations = reference["ref_annotations"]
    criterion = RefineDetCriterion(80, (320, 320), mine_filtered_anchors=True, clip_anchors=True)
    maps = [inputs[name] for name in ("arm_loc", "arm_conf", "odm_loc", "odm_conf")]
    losses, gradients = losses_of(criterion, maps, 320 * annotations[..., :4], annotations[..., 4])
    np.testing.assert_allclose(losses, reference["ref_losses"], rtol=1e-4)
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    np.testing.assert_allclose(norms, reference["ref_grad_norms"], rtol=1e-4)


def random_case(seed=0, images=3):
    rng = np.random.default_rng(seed)
    count = len(make_anchors(*SIZE))
    maps = [rng.normal(0, 0.5, (images, count, 4)), rng.normal((3.5, 0), 1.5, (images, count, 2)),
            rng.normal(0, 0.5, (images, count, 4)), rng.normal(0, 1, (images, count, CLASSES + 1))]  # fmt: skip
    boxes, labels = np.zeros((images, 9, 4)), np.full((images, 9), -1)
    # The second image has none; padding need not come last.
    for image, found in ((0, 9), (2, 4)):
        start = rng.uniform((0, 0), (90, 40), (found, 2))
        boxes[image, -found:] = np.concatenate((start, start + rng.uniform(3, 60, (found, 2))), 1)
        labels[image, -found:] = rng.integers(0, CLASSES, found)
    # Two boxes that share their best anchor.
    boxes[2, -1] = boxes[2, -2] + 0.5
    return maps, boxes, labels


def slow_losses(maps, boxes, labels, mine_filtered, theta=0.01, ratio=3):
    """Reference, image by image, in float64."""
    arm_loc, arm_conf, odm_loc, odm_conf = (np.asarray(map_, np.float64) for map_ in maps)
    anchors = make_anchors(*SIZE).astype(np.float64)
    sums, counts = np.zeros(4), np.zeros(2)
    for n in range(len(boxes)):
        there = labels[n] >= 0
        power = np.exp(arm_conf[n])
        passes = power[:, 1] / power.sum(1) > theta
        moved = np.concatenate((anchors[:, :2] + 0.1 * arm_loc[n, :, :2] * anchors[:, 2:],
                                anchors[:, 2:] * np.exp(0.2 * arm_loc[n, :, 2:])), 1)  # fmt: skip
        for module, (priors, loc, conf) in enumerate(((anchors, arm_loc, arm_conf), (moved, odm_loc, odm_conf))):
            owner = slow_match(priors, boxes[n][there])
            classes = np.where(owner >= 0, 1 if module == 0 else labels[n][there][owner] + 1, 0) if there.any() else 0
            classes = np.zeros(len(priors), int) + classes
            positive, candidate = owner >= 0, owner < 0
            if module == 1 and mine_filtered:
                positive, candidate = positive & passes, ~(positive & passes)
            elif module == 1:
                candidate = candidate & passes
            entropy = np.log(np.exp(conf[n]).sum(1)) - conf[n][np.arange(len(priors)), classes]
            order = sorted(np.flatnonzero(candidate), key=lambda i, e=entropy: -e[i])
            negative = order[: ratio * positive.sum()]
            for i in np.flatnonzero(positive):
                box = xyxy_to_cxcywh(boxes[n][there][owner[i]])
                target = np.concatenate(((box[:2] - priors[i, :2]) / (0.1 * priors[i, 2:]),
                                         np.log(box[2:] / priors[i, 2:] + 1e-5) / 0.2))  # fmt: skip
                error = np.abs(loc[n, i] - target)
                sums[2 * module] += np.where(error < 1, error**2 / 2, error - 0.5).sum()
            sums[2 * module + 1] += entropy[positive].sum() + entropy[negative].sum()
            counts[module] += positive.sum()
    return sums / np.repeat(np.maximum(counts, 1), 2)


def slow_match(priors, boxes):
    """Index of the box of each anchor, -1 for none."""
    owner = np.full(len(priors), -1)
    if not len(boxes):
        return owner
    overlap = iou_matrix(cxcywh_to_xyxy(priors), boxes)
    for i, row in enumerate(overlap):
        if row.max() >= 0.5:
            owner[i] = row.argmax()
    for j in range(len(boxes)):
        owner[overlap[:, j].argmax()] = j
    return owner


@pytest.mark.parametrize("mine_filtered", [False, True])
def test_against_the_reference(mine_filtered):
    maps, boxes, labels = random_case()
    criterion = RefineDetCriterion(CLASSES, SIZE, mine_filtered_anchors=mine_filtered)
    losses, gradients = losses_of(criterion, maps, boxes, labels)
    expected = slow_losses(maps, boxes, labels, mine_filtered)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    # Both kinds of mining must differ here.
    assert abs(slow_losses(maps, boxes, labels, not mine_filtered)[3] / expected[3] - 1) > 1e-3
    # The refined anchors are constants for the second module: its loss has no gradient in the first.
    alone, _ = losses_of(criterion, [maps[0], maps[1], 0 * maps[2], 0 * maps[3]], boxes, labels)
    np.testing.assert_allclose(alone[:2], losses[:2], rtol=1e-5)
    _, others = losses_of(criterion, [maps[0], maps[1], 0 * maps[2], 0 * maps[3]], boxes, labels)
    np.testing.assert_array_equal(others[0], gradients[0])


def test_a_batch_without_boxes(capfd):
    maps, boxes, labels = random_case()
    losses, gradients = losses_of(RefineDetCriterion(CLASSES, SIZE), maps, 0 * boxes, np.full_like(labels, -1))
    assert "[WARNING]" not in capfd.readouterr().err, "of the compiler"
    np.testing.assert_array_equal(losses, 0)
    assert all((gradient == 0).all() for gradient in gradients)


def test_extreme_boxes_and_maps_stay_finite():
    """A box without area, one outside the image, and diverged anchors of the first module."""
    maps, boxes, labels = random_case()
    boxes[0, 0] = (10, 10, 10, 10)
    boxes[0, 1] = (500, 500, 600, 600)
    maps[0][0, :50] = 1e6
    maps[0][0, 50:100] = -1e6
    losses, gradients = losses_of(RefineDetCriterion(CLASSES, SIZE), maps, boxes, labels)
    assert np.isfinite(losses).all() and all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("arguments", "fragment"), [((0, SIZE), "num_classes"), ((3, (64, 100)), "multiples of 64")])
def test_invalid_arguments(arguments, fragment):
    with pytest.raises(UsageError, match=fragment):
        RefineDetCriterion(*arguments)
