"""One real, tiny YOLOv3 step in its other forms: several sizes with one compile, half precision, weights from files."""

import logging

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp
from mindspore.common import api

from msdet.checkpoints.weights_file import save_weights, tensors_of
from msdet.config import load_config
from msdet.errors import UserError
from msdet.models.recipe import get_recipe
from msdet.training.start_weights import fill_backbone, start_from
from msdet.training.step import LossCell, StepOptions, TrainStep
from msdet.training.train import _declare_dynamic

pytestmark = pytest.mark.usefixtures("graph_mode")

TINY = ["--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1"]


def recipe(classes=2, *flags):
    return get_recipe(load_config("configs/yolov3_shapes.yaml", [*TINY, *flags]).replace(num_classes=classes))


def train_step(options=None, level="O0"):
    ms.set_seed(1)
    r = recipe()
    network = r.build_network()
    if level != "O0":
        network = amp.auto_mixed_precision(network, level)
    step = TrainStep(LossCell(r.build_preprocess(), network, r.build_criterion()), options or StepOptions())
    return step.set_train()


def batch(size, count, seed):
    """Two images of (h, w), `count` rows of boxes of which the last is padding."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (2, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 30, (2, count, 2))], 2).astype(np.float32)
    labels = rng.integers(0, 2, (2, count)).astype(np.int32)
    boxes[:, -1], labels[:, -1] = 0, -1
    images = rng.integers(0, 255, (2, *size, 3)).astype(np.uint8)
    return images, np.int32([size] * 2), boxes, labels, np.float32(size)


def run(step, batches):
    return [step.run(b, 0.01, ema_decay=0.9).losses for b in batches]


@pytest.mark.slow
def test_all_sizes_share_one_compile_and_the_losses_of_fixed_shapes(monkeypatch):
    compiled = []
    compile_graph = api._cell_graph_executor.compile

    def counting(*args, **kwargs):
        phase, is_new = compile_graph(*args, **kwargs)
        compiled.append(is_new)
        return phase, is_new

    monkeypatch.setattr(api._cell_graph_executor, "compile", counting)
    shapes = [((64, 64), 4), ((64, 96), 8), ((64, 64), 4)]
    batches = [batch(size, count, seed) for seed, (size, count) in enumerate(shapes)]
    dynamic = train_step()
    _declare_dynamic(dynamic)
    losses = run(dynamic, batches)
    assert sum(compiled) == 1
    np.testing.assert_allclose(losses, run(train_step(), batches), rtol=1e-4)
    assert sum(compiled) == 3


@pytest.mark.slow
@pytest.mark.parametrize("level", ["O2", "O3"])
def test_half_precision_starts_like_float_and_does_not_depend_on_the_loss_scale(level):
    """Only the first loss is compared: batch norm over 2 x 2 maps of two images magnifies rounding from then on."""
    batches = [batch((64, 64), 4, 0)] * 3
    small, large = (train_step(StepOptions(loss_scale=scale, ema_decay=0.9), level) for scale in (64.0, 1024.0))
    before = small.weights[0].asnumpy().copy()
    losses = run(small, batches)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    in_float, _ = train_step().loss_cell(*map(Tensor, batches[0]))
    assert np.sum(losses[0]) == pytest.approx(float(in_float), rel=0.01)
    # Not bit for bit: the smallest gradients of the smaller scale lose digits in fp16.
    np.testing.assert_allclose(losses, run(large, batches), rtol=1e-3, atol=1e-3)
    for mine, other in zip(small.weights, large.weights, strict=True):
        np.testing.assert_allclose(mine.asnumpy(), other.asnumpy(), atol=1e-3, err_msg=mine.name)
    assert np.abs(small.weights[0].asnumpy() - before).max() > 0
    # Names in a checkpoint do not depend on the precision of the run.
    assert small.averages().keys() == tensors_of(recipe().build_network()).keys()


def saved(tmp_path, classes=2, card=True, name="w.ckpt"):
    r = recipe(classes)
    ms.set_seed(7)
    tensors = tensors_of(r.build_network())
    content = {"class_names": [f"class {i}" for i in range(classes)]} if card else {}
    save_weights(tmp_path / name, tensors, content)
    return tmp_path / name, tensors, content


def test_filter_weight_keeps_all_but_the_class_layers(tmp_path, caplog):
    path, tensors, card = saved(tmp_path, classes=5)
    r = recipe(2, "--filter_weight", "True", "--pretrained", str(path))
    network = r.build_network()
    drawn = tensors_of(network)
    with caplog.at_level(logging.INFO):
        start_from(network, r, tensors, card)
    now = tensors_of(network)
    for name, value in now.items():
        source = drawn if ".predict." in name else tensors
        np.testing.assert_array_equal(value, source[name], err_msg=name)
    assert "6 tensors stay as drawn: block32.predict.weight" in caplog.text


def test_other_classes_without_it_name_the_flag(tmp_path):
    path, tensors, card = saved(tmp_path, classes=5)
    r = recipe(2, "--pretrained", str(path))
    with pytest.raises(UserError, match="--filter_weight=True"):
        start_from(r.build_network(), r, tensors, card)
    with pytest.raises(UserError, match="--filter_weight=True"):
        start_from(r.build_network(), r, tensors, {})


@pytest.mark.parametrize("kind", ["detector", "classifier", "bare"])
def test_a_backbone_is_filled_whole(tmp_path, kind):
    _, tensors, _ = saved(tmp_path)
    backbone = {name: value for name, value in tensors.items() if name.startswith("backbone.")}
    if kind == "classifier":
        backbone["head.fc.weight"] = np.zeros((10, 16), np.float32)
    elif kind == "detector":
        backbone = tensors
    else:
        backbone = {name.removeprefix("backbone."): value for name, value in backbone.items()}
    save_weights(tmp_path / "b.ckpt", backbone, {})
    network = recipe().build_network()
    head = network.block8.predict.weight.asnumpy().copy()
    fill_backbone(network, tmp_path / "b.ckpt")
    for name, value in tensors_of(network).items():
        if name.startswith("backbone."):
            np.testing.assert_array_equal(value, tensors[name], err_msg=name)
    np.testing.assert_array_equal(network.block8.predict.weight.asnumpy(), head)


def test_a_backbone_with_a_gap_is_refused(tmp_path):
    _, tensors, _ = saved(tmp_path)
    del tensors["backbone.stem.conv.weight"]
    save_weights(tmp_path / "b.ckpt", tensors, {})
    with pytest.raises(UserError, match="stem.conv.weight"):
        fill_backbone(recipe().build_network(), tmp_path / "b.ckpt")
    save_weights(tmp_path / "c.ckpt", {"x": np.zeros(1, np.float32)}, {})
    with pytest.raises(UserError, match="no backbone of this network"):
        fill_backbone(recipe().build_network(), tmp_path / "c.ckpt")
