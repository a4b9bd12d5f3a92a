"""A non-finite step is saved with everything it depends on, and replayed image by image."""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from msdet.config import load_config
from msdet.data.loading.batch import Batch
from msdet.errors import UserError
from msdet.files import read_json
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from msdet.training.hooks.failed_step import KeepFailedStep
from msdet.training.loop import Trainer
from msdet.training.replay.failed_step import Replay, load_failed_step
from msdet.training.step import StepOptions, TrainStep

pytestmark = pytest.mark.usefixtures("graph_mode", "at_root")
LOSSES = ("length", "peak")


class Lengths(nn.Cell):
    """Losses: |w x| of each image's pixel x as the root of a square, which has no gradient at x = 0, and a logarithm
    that is infinite at x = 255."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = nn.Dense(3, 1, weight_init="ones", has_bias=False)

    def construct(self, images, valid_sizes, boxes, labels, size):
        pixels = ops.cast(images[:, 0, 0], ms.float32)
        length = ops.reduce_mean(ops.sqrt(ops.square(self.network(pixels / 255))))
        peak = ops.stop_gradient(-ops.log((255 - ops.reduce_max(pixels)) / 255))
        return length + peak, (length, peak)


def build_step(loss_scale=1.0):
    step = TrainStep(Lengths(), StepOptions(loss_weight=0.5, loss_scale=loss_scale))
    step.set_train()
    return step


def saved_step(folder, pixels, **options):
    """The saved step of a training that fails on these pixels, read back."""
    samples = type("Samples", (), {"__getitem__": lambda self, n: type("Sample", (), {"image_path": f"{n}.jpg"})})()
    batch = Batch(
        images=np.stack([np.full((1, 1, 3), value, np.uint8) for value in pixels]),
        boxes=np.zeros((len(pixels), 1, 4), np.float32), labels=np.full((len(pixels), 1), -1, np.int32),
        geometry=[type("Geometry", (), {"valid_size": (1, 1)})] * len(pixels),
        image_ids=[f"image {value}" for value in pixels], size=(1, 1), indices=np.arange(len(pixels)), epoch=0,
        number=0,
    )  # fmt: skip
    loader = type("Loader", (), {
        "steps_per_epoch": 1, "dataset": type("Dataset", (), {"samples": samples}), "boxes_cut": 0,
        "start": lambda self: None, "epoch": lambda self, epoch, start=0: iter([batch]),
    })()  # fmt: skip
    cfg = load_config("configs/yolov3_shapes.yaml", ["--max_epoch", "1"])
    card = {"model": "yolov3", "class_names": ["red"]}
    trainer = Trainer(
        cfg, Runtime("CPU"), build_step(**options), LOSSES, loader, lambda *_: 0.01, folder, card, "data", StopRequest()
    )
    with pytest.raises(UserError, match="msdet replay"):
        trainer.fit([KeepFailedStep()])
    return load_failed_step(folder / "debug" / "step_0")


def report_of(failed):
    return list(Replay(failed, build_step(failed.report["loss_scale"]), LOSSES).lines())


def test_the_image_with_a_non_finite_gradient_is_marked(tmp_path):
    failed = saved_step(tmp_path, (7, 0, 9))
    assert math.isfinite(failed.report["losses"]["length"])
    assert failed.report["gradient_norm"] == "nan"
    head, length, peak, norm, *images = report_of(failed)
    assert head == "step 0 of epoch 0, 3 images"
    assert float(length.split()[1]) == pytest.approx((7 + 0 + 9) / 255)
    assert norm == "gradient norm: nan (was nan)"
    assert [line.endswith("<- not finite") for line in images] == [False, True, False]
    assert images[1].startswith('image "image 0" alone: length 0,')


def test_the_image_with_a_non_finite_loss_is_marked(tmp_path):
    failed = saved_step(tmp_path, (255, 3))
    assert failed.report["losses"]["peak"] == "inf"
    *_, first, second = report_of(failed)
    assert first.endswith("<- not finite") and "peak inf" in first
    assert "not finite" not in second


def test_norms_are_of_the_weighted_unscaled_gradient(tmp_path):
    """The gradient of |w x| is x for each of three channels: a norm of sqrt(3) x, halved by the loss weight."""
    failed = saved_step(tmp_path, (255, 51), loss_scale=128.0)
    *_, image = report_of(failed)
    assert float(image.rsplit("gradient ", 1)[1]) == pytest.approx(math.sqrt(3) * 0.2 * 0.5, rel=1e-5)
    assert failed.report["loss_scale"] == 128


def test_the_report_of_a_saved_step_is_json_without_nan(tmp_path):
    saved_step(tmp_path, (0,))
    report = read_json(tmp_path / "debug" / "step_0" / "report.json")
    assert report["images"] == [{"id": "image 0", "file": "0.jpg", "classes": [], "boxes": []}]
    assert "NaN" not in (tmp_path / "debug" / "step_0" / "report.json").read_text()
