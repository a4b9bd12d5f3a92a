"""Log lines, announcements of compiles, and heartbeats of a training."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from msdet.data.loading.batch import Batch
from msdet.training.hooks import log as log_hooks
from msdet.training.hooks.evaluation import Evaluate
from msdet.training.hooks.log import AnnounceCompiles, CompileProgress, Heartbeat, LogLines
from msdet.training.loop import Hook
from tests.training.one_layer import Loader, saving, trainer

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_speeds_and_times_exclude_evaluations(tmp_path, caplog, monkeypatch):
    """One second per step of two images, one hour per evaluation, of which one precedes the first step."""
    now = [1000.0]
    monkeypatch.setattr(log_hooks, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    lines, saver = LogLines(3), saving(tmp_path)

    class Second(Hook):
        def before_step(self, trainer, batch):
            now[0] += 1

    def evaluate(weights):
        with lines.paused():
            now[0] += 3600
        return {"AP": 0.5}

    caplog.set_level("INFO")
    mine = trainer(tmp_path, Loader(), "--max_epoch", "4")
    mine.epoch, mine.step, mine.scored_epoch = 1, 4, 0
    mine.fit([Second(), lines, saver, Evaluate(evaluate, saver, 1, 1, None, [])])
    speeds = [line.split("imgs/sec")[0].split()[-1] for line in caplog.messages if "imgs/sec" in line]
    assert speeds == ["2.00"] * len(speeds) and len(speeds) == 4
    times = [line for line in caplog.messages if line.startswith("epoch time")]
    assert times == ["epoch time: 4000.0 ms, per step time: 1000.00 ms"] * 3


def batch_of(size, boxes):
    return Batch(
        images=np.zeros((1, *size, 3), np.uint8), boxes=np.zeros((1, boxes, 4), np.float32),
        labels=np.full((1, boxes), -1, np.int32), geometry=[], image_ids=["a"], size=size, indices=np.arange(1),
        epoch=0, number=0,
    )  # fmt: skip


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_each_further_shape_is_announced_once(caplog, is_dynamic):
    caplog.set_level("INFO")
    hook = AnnounceCompiles(is_dynamic)
    for size, boxes in (((64, 96), 8), ((64, 96), 8), ((64, 64), 8), ((64, 64), 16), ((64, 96), 8)):
        hook.before_step(SimpleNamespace(), batch_of(size, boxes))
    expected = ["64 x 64 px and up to 8 boxes", "64 x 64 px and up to 16 boxes"] if not is_dynamic else []
    assert caplog.messages == [f"compiling again for {text} per image" for text in expected]


def test_a_long_compile_is_reported_until_the_first_step_is_done(caplog):
    caplog.set_level("INFO")
    hook = CompileProgress(interval=0.01)
    hook.before_step(SimpleNamespace(), None)
    deadline = time.monotonic() + 10
    while not any("still compiling" in line for line in caplog.messages) and time.monotonic() < deadline:
        time.sleep(0.005)
    hook.after_step(SimpleNamespace())
    hook.before_step(SimpleNamespace(), None)
    assert sum("compiling the training graph" in line for line in caplog.messages) == 1
    time.sleep(0.03)
    count = len(caplog.messages)
    time.sleep(0.05)
    assert count >= 2 and len(caplog.messages) == count


def test_the_launcher_gets_a_heartbeat_before_and_after_each_step(monkeypatch):
    beats = []
    monkeypatch.setattr(log_hooks, "touch_heartbeat", lambda: beats.append(None))
    Heartbeat().before_step(SimpleNamespace(), None)
    Heartbeat().after_step(SimpleNamespace())
    assert len(beats) == 2


def test_losses_of_a_line_are_means_since_the_last_line(tmp_path, caplog):
    caplog.set_level("INFO")
    hook = LogLines(2)
    trainer = SimpleNamespace(runtime=SimpleNamespace(group_size=3), epoch=0, step=0)
    hook.before_train(trainer)
    for trainer.step, loss in enumerate((1.0, 2.0, 4.0, 8.0, 16.0), 1):
        trainer.result = SimpleNamespace(loss=loss, images=2, is_finite=True, rate=0.5)
        hook.after_step(trainer)
    lines = [(line.split(",")[1].strip(), line.split("loss:")[1].split(",")[0]) for line in caplog.messages]
    assert lines == [("iter[0]", "1.000000"), ("iter[2]", "3.000000"), ("iter[4]", "12.000000")]
