"""Losses and gradients of every model in half precision against float32, with large activations and black pixels."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from src.common.layers import Float32Cell, SpatialMean
from src.config import load_config
from src.efficientdet_d0.bifpn import WeightedMean
from src.engine.starts import freeze_batch_norm
from src.engine.train_step import LossCell
from src.recipe import get_recipe

pytestmark = pytest.mark.usefixtures("at_root")

YOLO = ["--backbone_shape=4,8,8,16,16,16", "--backbone_layers=1,1,1,1,1", "--training_shape=64"]
REFINEDET = ["--testing_shape=64", "--pyramid_channels=8"]
# model -> configuration, flags of a tiny network, side of its input in px
MODELS = {
    "yolov3": ("yolov3_shapes", YOLO, 64),
    "yolov4": ("yolov4", YOLO, 64),
    "yolov4 mish_tanh": ("yolov4", [*YOLO, "--activation=mish_tanh"], 64),
    "efficientdet_d0": (
        "efficientdet_d0",
        ["--label_map=dense", "--training_shape=128", "--backbone_shape=8,4,4,8,8,8,8,16",
         "--backbone_layers=1,1,1,1,1,1,1", "--pyramid_channels=8", "--pyramid_repeats=1", "--head_repeats=1"],
        128,
    ),
    "refinedet vgg16": (
        "refinedet_vgg16_320", [*REFINEDET, "--backbone_shape=8,8,8,8,8,16", "--backbone_layers=1,1,1,1,1"], 64
    ),
    "refinedet resnet101": (
        "refinedet_resnet101_320", [*REFINEDET, "--backbone_shape=8,8,8,8,8", "--backbone_layers=1,1,1,1"], 64
    ),
    "darknet53": ("darknet53_imagenet", [*YOLO[:2], "--num_classes=3"], 64),
    "cspdarknet53": ("cspdarknet53_imagenet", [*YOLO[:2], "--num_classes=3"], 64),
}  # fmt: skip


def batch(side, task):
    """Two images, one of them half black, and what belongs to them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    images[1, : side // 2] = 0
    arrays = [images, np.int32([[side, side]] * 2)]
    if task == "classify":
        return [Tensor(a) for a in (*arrays, np.int32([0, 2]))]
    corner = rng.uniform(0, side / 2, (2, 4, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(4, side / 2, (2, 4, 2))), 2).astype(np.float32)
    labels = np.int32([[0, 1, 2, -1], [1, 0, -1, -1]])
    boxes[labels < 0] = 0
    return [Tensor(a) for a in (*arrays, boxes, labels, np.float32([side, side]))]


def losses_and_gradients(model, level, gain):
    config, flags, side = MODELS[model]
    ms.set_seed(0)
    recipe = get_recipe(load_config(f"configs/{config}.yaml", flags).replace(num_classes=3))
    network = recipe.build_network()
    for p in network.get_parameters():
        # The first convolution alone has three input channels.
        if p.name.endswith("weight") and p.ndim == 4 and p.shape[1] == 3:
            p.set_data(p * gain)
    network.set_train()
    # Statistics of the few pixels of a tiny map would magnify any rounding.
    freeze_batch_norm(network)
    network = amp.auto_mixed_precision(network, level)
    if model.startswith("refinedet"):
        recipe.build_criterion()
    cell = LossCell(recipe.build_preprocess(), network, recipe.build_criterion())
    run = ms.value_and_grad(cell, None, cell.trainable_params(), has_aux=True)
    (_, losses), gradients = run(*batch(side, recipe.task))
    return np.array([float(loss) for loss in losses]), [g.asnumpy().astype(np.float64) for g in gradients]


@pytest.mark.parametrize("gain", [1.0, 100.0])
@pytest.mark.parametrize("model", MODELS)
def test_half_precision_has_the_losses_of_float32(uncompiled, model, gain):
    expected, gradients = losses_and_gradients(model, "O0", gain)
    assert np.isfinite(expected).all()
    assert all(np.isfinite(g).all() for g in gradients)
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    for level in ("O2", "O3"):
        losses, half = losses_and_gradients(model, level, gain)
        print(
            model,
            gain,
            level,
            losses / expected - 1,
            np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(gradients, half))) / norm,
        )
