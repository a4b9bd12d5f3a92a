"""Networks in float16: their losses and gradients against those in float32, and the sums that overflow there."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn

from src.config import load_config
from src.darknet53.network import Classifier
from src.efficientdet_d0.efficientnet import SqueezeExcite
from src.engine.train_step import LossCell
from src.recipe import get_recipe
from src.refinedet.layers import ChannelNorm

pytestmark = pytest.mark.usefixtures("graph_mode", "at_root")

DARKNET = ["--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1"]
MODELS = {
    "yolov3": DARKNET,
    "yolov4": DARKNET,
    "efficientdet_d0": [
        "--backbone_shape", "8,4,4,8,8,8,8,16", "--backbone_layers", "1,1,1,1,1,1,1", "--pyramid_channels", "8",
        "--pyramid_repeats", "1", "--head_repeats", "1", "--label_map", "dense",
    ],
    "refinedet_vgg16_320": [
        "--backbone_shape", "8,8,8,8,8,16", "--backbone_layers", "1,1,1,1,1", "--pyramid_channels", "8",
    ],
    "refinedet_resnet101_320": [
        "--backbone_shape", "8,8,8,8,8", "--backbone_layers", "1,1,1,1", "--pyramid_channels", "8",
    ],
    "darknet53_imagenet": DARKNET,
    "cspdarknet53_imagenet": DARKNET,
}  # fmt: skip


def size_of(name):
    return 128 if name.startswith("efficientdet") else 64


def step(name, level):
    """Function from a batch to (losses, gradients), of a narrow network whose weights do not depend on the level."""
    flags = ["--training_shape", str(size_of(name)), "--testing_shape", str(size_of(name))]
    recipe = get_recipe(load_config(f"configs/{name}.yaml", [*MODELS[name], *flags]).replace(num_classes=3))
    ms.set_seed(3)
    np.random.seed(3)
    network = recipe.build_network()
    weights = network.trainable_params()
    if level != "O0":
        network = amp.auto_mixed_precision(network, level)
    cell = LossCell(recipe.build_preprocess(), network, recipe.build_criterion())
    cell.set_train()
    # As a training does: without a scale the smallest gradients of float16 are 0; with a large one those of random
    # weights overflow.
    scale = 8.0 if level != "O0" else 1.0

    def scaled(*batch):
        total, losses = cell(*batch)
        return total * scale, losses

    gradient = ms.value_and_grad(scaled, None, weights, has_aux=True)

    def run(batch):
        (_, losses), gradients = gradient(*[Tensor(array) for array in batch])
        return np.array([float(loss) for loss in losses]), [g.asnumpy().astype(np.float64) / scale for g in gradients]

    return run, recipe.task


def batch_of(images, task):
    count, size, _, _ = images.shape
    sizes = np.int32([[size, size]] * count)
    if task == "classify":
        return images, sizes, np.int32([0, 2][:count])
    boxes = np.zeros((count, 4, 4), np.float32)
    boxes[:, 0], boxes[:, 1] = (5, 10, 30, 45), (35, 15, 60, 30)
    labels = np.int32([[0, 2, -1, -1]] * count)
    return images, sizes, boxes, labels, np.float32([size, size])


def smooth(name):
    """Two images whose maps of large strides still differ from place to place."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (2, size_of(name) // 16, size_of(name) // 16, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 16, 1), 16, 2)


# The convolutions of float16 are slow on a CPU; a YOLO has a quick test in test_training_forms.py.
QUICK = ("refinedet_vgg16_320", "darknet53_imagenet")


@pytest.mark.parametrize(
    ("name", "level"),
    [
        pytest.param(name, level, marks=() if name in QUICK and level == "O2" else pytest.mark.slow)
        for name in MODELS
        for level in ("O2", "O3")
    ],
)
def test_losses_are_those_of_float32(name, level):
    run, task = step(name, "O0")
    half, _ = step(name, level)
    batch = batch_of(smooth(name), task)
    (losses, gradients), (found, found_gradients) = run(batch), half(batch)
    np.testing.assert_allclose(found, losses, rtol=0.03, atol=0.02)
    assert all(np.isfinite(g).all() for g in [*gradients, *found_gradients])
    norm, found_norm = (np.sqrt(sum((g**2).sum() for g in gs)) for gs in (gradients, found_gradients))
    # Batch norm over the few pixels of the smallest maps magnifies rounding.
    assert found_norm == pytest.approx(norm, rel=0.5)


def test_images_without_a_sign_have_finite_losses_and_gradients():
    """Where a network without batch norm gives maps of zeros, the length of their channels is 0."""
    half, task = step("refinedet_vgg16_320", "O2")
    losses, gradients = half(batch_of(np.full((2, 64, 64, 3), 124, np.uint8), task))
    assert np.isfinite(losses).all() and all(np.isfinite(g).all() for g in gradients)


def outputs(cell, x, level):
    """Output and gradient of its sum for the input, of a cell in training that stands in a network of a level."""
    network = cell if level == "O0" else amp.auto_mixed_precision(cell, level)
    network.set_train()

    def total(x):
        return network(x).sum()

    gradient = ms.grad(total)(Tensor(x))
    return network(Tensor(x)).asnumpy().astype(np.float64), gradient.asnumpy()


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_the_length_of_channels_does_not_overflow(level):
    rng = np.random.default_rng(1)
    x = rng.uniform(100, 800, (1, 64, 3, 3)).astype(np.float32)
    x[0, :, 1, 1] = 0
    y, g = outputs(nn.SequentialCell(ChannelNorm(64, 10.0)), x, level)
    length = np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True))
    expected = np.divide(10 * x, length, out=np.zeros(x.shape), where=length > 0)
    np.testing.assert_allclose(y, expected, rtol=2e-3, atol=1e-3)
    assert np.isfinite(g).all() and np.isfinite(outputs(ChannelNorm(64, 10.0), x, "O0")[1]).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_mean_of_a_large_map_does_not_overflow(training):
    ms.set_seed(1)
    cell = nn.SequentialCell(SqueezeExcite(4, 2))
    x = np.random.default_rng(2).uniform(1, 5, (1, 4, 256, 256)).astype(np.float32)
    expected = cell.set_train(training)(Tensor(x)).asnumpy()
    half = amp.auto_mixed_precision(cell, "O3").set_train(training)
    np.testing.assert_allclose(half(Tensor(x)).asnumpy(), expected, rtol=5e-3)


def test_the_mean_of_a_classifier_does_not_overflow():
    class Large(nn.Cell):
        out_channels = (4, 4, 4)

        def construct(self, x):
            return x, x, x * 300

    ms.set_seed(1)
    network = Classifier(Large(), 3)
    x = np.random.default_rng(2).uniform(1, 5, (1, 4, 16, 16)).astype(np.float32)
    expected = network(Tensor(x)).asnumpy()
    found = amp.auto_mixed_precision(network, "O3")(Tensor(x)).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=0.05)
