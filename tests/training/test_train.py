"""The training step of a tiny YOLOv3: several sizes with one compile, and half precision."""

from contextlib import contextmanager
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp
from mindspore.common import api

from msdet.checkpoints.weights_file import tensors_of
from msdet.training.step import LossCell, StepOptions, TrainStep
from msdet.training.train import _declare_dynamic_shapes, _score_function
from tests.evaluation.evaluators import SecondRank
from tests.training.tiny_yolov3 import recipe

pytestmark = pytest.mark.usefixtures("graph_mode")


def train_step(options=None, level="O0"):
    ms.set_seed(1)
    r = recipe()
    network = r.build_network()
    if level != "O0":
        network = amp.auto_mixed_precision(network, level)
    step = TrainStep(LossCell(r.build_preprocess(), network, r.build_criterion()), options or StepOptions())
    return step.set_train()


def batch(size, count, seed):
    """Two images of (h, w) with `count` rows of boxes, of which the last is padding."""
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
def test_dynamic_shapes_need_one_compile_and_give_the_same_losses(monkeypatch):
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
    _declare_dynamic_shapes(dynamic)
    losses = run(dynamic, batches)
    assert sum(compiled) == 1
    np.testing.assert_allclose(losses, run(train_step(), batches), rtol=1e-4)
    assert sum(compiled) == 3


@pytest.mark.slow
@pytest.mark.parametrize("level", ["O2", "O3"])
def test_half_precision_is_close_to_float32_and_independent_of_the_loss_scale(level):
    """Only the first loss is compared: batch norm over 2 x 2 maps of two images amplifies later rounding errors."""
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
    # The names in a checkpoint do not depend on the precision of the run.
    assert small.averages().keys() == tensors_of(recipe().build_network()).keys()


def test_all_ranks_evaluate_the_statistics_of_rank_0_and_get_its_scores(tmp_path):
    """The clock for the log lines is paused meanwhile."""

    class Rank(SecondRank):
        def gather_numbers(self, values):
            return np.float64([[0.25, 0.5], values])

    loaded = {}
    evaluator = SimpleNamespace(
        task=SimpleNamespace(SCORE_NAMES=("AP", "AP50")), collect=lambda path: None,
        predictor=SimpleNamespace(load=lambda weights, source: loaded.update(weights)),
    )  # fmt: skip
    trainer = SimpleNamespace(
        runtime=Rank("CPU", rank=1, group_size=2), trainable_names=lambda: {"w"}, folder=tmp_path, epoch=1,
    )  # fmt: skip
    clock = []

    @contextmanager
    def paused():
        clock.append("paused" if not loaded else "late")
        yield
        clock.append("resumed")

    score = _score_function(trainer, evaluator, SimpleNamespace(paused=paused))
    assert score({"w": np.float32([7]), "mean": np.float32([7])}) == {"AP": 0.25, "AP50": 0.5}
    assert (loaded["w"], loaded["mean"]) == (7, 1)
    assert clock == ["paused", "resumed"]
