"""The training loop of a one-layer network: errors, stop requests, resuming, and results that are read late."""

import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from msdet.checkpoints.state import checkpoints_in, load_snapshot
from msdet.checkpoints.weights_file import load_weights
from msdet.errors import UsageError, UserError
from msdet.runtime.device import TRAITS
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from msdet.training import loop as trainer_module
from msdet.training.hooks.failed_step import KeepFailedStep
from msdet.training.hooks.log import LogLines
from msdet.training.loop import Hook
from msdet.training.schedules import build_schedule
from msdet.training.step import StepOptions, TrainStep
from tests.training.batch_norm_on_cpu import Convolved
from tests.training.one_layer import Loader, resumed, saving, steps_in, trainer

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_a_non_finite_step_changes_no_weight(tmp_path):
    mine = trainer(tmp_path, Loader(bright=(0,)))
    before = mine.train_step.loss_cell.network.weight.asnumpy().copy()
    with pytest.raises(UserError, match="The weights were not updated"):
        mine.fit([])
    np.testing.assert_array_equal(mine.train_step.loss_cell.network.weight.asnumpy(), before)


def test_overflows_with_a_dynamic_scale_are_tolerated_up_to_max_skipped_steps(tmp_path, caplog):
    flags = ("--amp_level", "O2", "--dynamic_loss_scale", "1", "--max_skipped_steps", "3")
    options = StepOptions(loss_scale=8.0, dynamic_loss_scale=True)
    mine = trainer(tmp_path, Loader(bright=(1, 2, 4)), *flags, options=options)
    mine.fit([LogLines(100), saving(tmp_path)])
    assert (mine.step, mine.skipped, mine.skipped_in_a_row) == (8, 3, 0)
    assert "step 3: gradient overflow, update skipped, loss scale was 4; 2 skipped so far, 2 in a row" in caplog.text
    progress = load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress
    assert (progress["skipped"], progress["skipped_in_a_row"]) == (3, 0)
    mine = trainer(tmp_path, Loader(bright=(2, 3, 4, 5)), *flags, options=options)
    with pytest.raises(UserError, match="3 times in a row in epoch 1, step 4: .*loss scale 2; images a0"):
        mine.fit([KeepFailedStep()])
    assert json.loads((tmp_path / "debug" / "step_4" / "report.json").read_text())["skipped_in_a_row"] == 3


def test_overflows_with_a_static_scale_are_tolerated_as_well(tmp_path, caplog):
    flags = ("--amp_level", "O2", "--max_skipped_steps", "3")
    options = StepOptions(loss_scale=8.0)
    mine = trainer(tmp_path, Loader(bright=(1, 2, 4)), *flags, options=options)
    mine.fit([LogLines(100)])
    assert (mine.step, mine.skipped) == (8, 3) and "loss scale was 8; 2 skipped so far, 2 in a row" in caplog.text
    mine = trainer(tmp_path, Loader(bright=(2, 3, 4)), *flags, options=options)
    with pytest.raises(UserError, match="3 times in a row in epoch 1, step 4"):
        mine.fit([])


def test_a_data_error_ends_the_run_after_saving_a_checkpoint(tmp_path):
    def missing():
        raise UserError("image 7.jpg is missing")

    with pytest.raises(UserError, match="7.jpg is missing"):
        trainer(tmp_path, Loader(actions={6: missing})).fit([saving(tmp_path)])
    assert steps_in(tmp_path) == [4, 6]


def test_a_stop_request_ends_the_wait_for_a_batch(tmp_path):
    stop = StopRequest()

    def stalled():
        threading.Timer(0.2, stop.make).start()
        deadline = time.monotonic() + 30
        while not stop.is_made() and time.monotonic() < deadline:
            time.sleep(0.01)
        return stop.is_made()

    mine = trainer(tmp_path, Loader(actions={2: stalled}), stop=stop)
    mine.fit([saving(tmp_path)])
    assert mine.should_stop and steps_in(tmp_path) == [2]


def test_after_train_is_called_for_all_hooks_even_if_one_fails(tmp_path):
    ended = []

    class Ends(Hook):
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def after_train(self, trainer):
            ended.append(self.name)
            if self.fails:
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        trainer(tmp_path, Loader()).fit([Ends("first"), Ends("second", fails=True)])
    assert sorted(ended) == ["first", "second"]


def rates(mine):
    """Learning rate of each step, by (epoch, step of the epoch)."""
    found = {}

    class Notes(Hook):
        def before_step(self, trainer, batch):
            self.place = trainer.epoch, trainer.step_in_epoch

        def after_step(self, trainer):
            found[self.place] = trainer.result.rate

    mine.fit([Notes()])
    return found


@pytest.mark.parametrize(("before", "after"), [(4, 2), (4, 8), (4, 3), (8, 1), (4, 4)])
def test_a_run_resumes_at_the_same_fraction_of_the_epoch(tmp_path, before, after):
    """With another number of steps per epoch, the schedule and the end of the run stay the same."""

    def schedule(steps):
        return build_schedule("cosine_per_step", 0.1, steps, 4, warmup_epochs=1)

    class StopInside(Hook):
        def after_step(self, trainer):
            if trainer.step == before + 3 * before // 4:
                trainer.stop.make()

    flags = "--max_epoch", "4"
    mine = trainer(tmp_path, Loader(before), *flags, schedule=schedule(before))
    mine.fit([StopInside(), saving(tmp_path)])
    assert (mine.epoch, mine.step_in_epoch) == (1, 3 * before // 4)
    again = resumed(tmp_path, Loader(after), *flags, schedule=schedule(after))
    assert (again.epoch, again.step_in_epoch) == (1, 3 * after // 4)
    assert again.steps_left == 3 * after - 3 * after // 4
    wanted = [(epoch, step) for epoch in (1, 2, 3) for step in range(after)][3 * after // 4 :]
    assert rates(again) == {place: schedule(after)(*place) for place in wanted}
    assert again.epoch == 4 and again.step == 7 * before // 4 + len(wanted)


def test_accumulation_windows_continue_across_epochs_and_checkpoints(tmp_path):
    """Three steps per epoch, windows of two: a window is completed in the next epoch."""
    flags, options = ("--accumulate_steps", "2"), StepOptions(accumulate_steps=2, momentum=0.5)

    def weights_after_each(mine):
        seen = []

        class Notes(Hook):
            def after_step(self, trainer):
                seen.append(trainer.train_step.loss_cell.network.weight.asnumpy().tolist())
                if trainer.step == stop_at:
                    trainer.stop.make()

        mine.fit([Notes(), saving(tmp_path)])
        return seen

    stop_at = 3
    start = trainer(tmp_path, Loader(3), *flags, options=options)
    first = start.train_step.loss_cell.network.weight.asnumpy().tolist()
    one = weights_after_each(start)
    assert one[0] == first and one[1] != first and one[2] == one[1]
    stop_at = 0
    two = weights_after_each(resumed(tmp_path, Loader(3), *flags, options=options))
    assert two[0] != one[2] and two[1] == two[0] and two[2] != two[1]


def test_a_run_resumes_with_other_windows_and_averages(tmp_path):
    def run(mine):
        mine.fit([saving(tmp_path)])
        return mine

    run(trainer(tmp_path, Loader(3), "--accumulate_steps", "2", options=StepOptions(accumulate_steps=2)))
    changed = StepOptions(accumulate_steps=3, ema_decay=0.9, loss_scale=2.0)
    mine = resumed(tmp_path, Loader(3), "--accumulate_steps", "3", "--max_epoch", "4", options=changed)
    assert mine.window == 0 and float(mine.train_step.scale.asnumpy()) == 2
    np.testing.assert_array_equal(
        mine.train_step.averages()["weight"], mine.train_step.loss_cell.network.weight.asnumpy()
    )
    run(mine)
    again = resumed(tmp_path, Loader(3), "--max_epoch", "6")
    assert run(again).epoch == 6


def test_gradients_that_would_never_be_applied_are_warned_of(tmp_path, caplog):
    with pytest.raises(UsageError, match="accumulate_steps 9 is more than the 8 steps of this training"):
        trainer(tmp_path, Loader(), "--accumulate_steps", "9", options=StepOptions(accumulate_steps=9)).fit([])
    trainer(tmp_path, Loader(), "--accumulate_steps", "3", options=StepOptions(accumulate_steps=3)).fit([])
    assert "accumulate_steps 3 does not divide the number of steps: the last 2 make no update" in caplog.text
    caplog.clear()
    trainer(tmp_path, Loader(), "--accumulate_steps", "4", options=StepOptions(accumulate_steps=4)).fit([])
    assert "accumulate_steps" not in caplog.text


def test_a_stop_request_to_another_rank_stops_this_one_after_the_same_step(tmp_path):
    """Rank 0, when rank 1 receives the request during the third step."""

    mine = trainer(tmp_path, Loader())
    mine.runtime = Runtime("CPU", rank=0, group_size=2)
    launch = mine.train_step.launch

    def launch_with_another(*batch, **options):
        numbers = replace(launch(*batch, **options).read(), is_stop_requested=mine.step == 2)
        return SimpleNamespace(read=lambda: numbers)

    mine.train_step.launch = launch_with_another
    mine.fit([])
    assert mine.step == 3 and not mine.stop.is_made()


@pytest.fixture
def runs_ahead(monkeypatch):
    """Results are read one step late, as on a GPU or Ascend device."""
    monkeypatch.setattr(trainer_module, "device_traits", lambda: replace(TRAITS["CPU"], runs_ahead=True))
    launch = TrainStep.launch
    monkeypatch.setattr(TrainStep, "launch", lambda *batch, ahead, **options: launch(*batch, **options))


class Seen(Hook):
    """Records the calls of a hook."""

    def __init__(self):
        self.events = []

    def before_step(self, trainer, batch):
        self.events.append(("before", batch.number, trainer.next_step))

    def after_step(self, trainer):
        self.events.append(("after", trainer.step, trainer.result.rate))

    def after_epoch(self, trainer):
        self.events.append(("epoch", trainer.epoch, trainer.step))


def test_a_step_is_read_after_the_next_one_is_launched(tmp_path, runs_ahead):
    seen = Seen()
    mine = trainer(tmp_path, Loader(), schedule=lambda epoch, step: 0.01 + 0.1 * epoch + 0.001 * step)
    mine.fit([seen])
    count = mine.steps_per_epoch
    first = [event for event in seen.events[: 2 * count] if event[0] != "epoch"]
    assert first[:4] == [("before", 0, 0), ("before", 1, 1), ("after", 1, 0.01), ("before", 2, 2)]
    # `after_epoch` is called when all steps of the epoch have been read.
    assert seen.events[2 * count] == ("epoch", 1, count)
    assert [event[2] for event in seen.events if event[0] == "after"] == [
        0.01 + 0.1 * epoch + 0.001 * step for epoch in range(2) for step in range(count)
    ]


@pytest.mark.parametrize("flags", [(), ("--accumulate_steps", "3"), ("--ema_decay", "0.9")], ids=str)
def test_reading_results_late_changes_no_value(tmp_path, request, flags):
    options = StepOptions(
        weight_decay=0.01, accumulate_steps=3 if "3" in flags else 1, ema_decay=0.9 * ("0.9" in flags)
    )
    states = []
    for folder in (tmp_path / "at once", tmp_path / "late"):
        folder.mkdir()
        mine = trainer(folder, Loader(), *flags, options=options)
        for parameter in mine.train_step.weights:
            parameter.set_data(Tensor(np.full(parameter.shape, 0.1, np.float32)))
        mine.train_step.restart_averages()
        mine.fit([saving(folder)])
        states.append({**mine.snapshot().weights, **mine.snapshot().averages, **mine.snapshot().state})
        request.getfixturevalue("runs_ahead")
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name], value, err_msg=name)


def test_a_failed_step_that_is_read_late_is_saved_with_its_weights(tmp_path, runs_ahead):
    """Its weights are saved although another step was launched since."""
    mine = trainer(tmp_path, Loader(bright=(1,)), options=StepOptions(max_skips=1))
    before = []

    class Note(Hook):
        def after_step(self, trainer):
            before.append(trainer.train_step.loss_cell.network.weight.asnumpy().copy())

    with pytest.raises(UserError, match="step 1: .*images a1, b1"):
        mine.fit([Note(), KeepFailedStep()])
    kept, _ = load_weights(tmp_path / "debug" / "step_1" / "weights.ckpt")
    # The weights after the first step, read after the second was launched, which changes nothing.
    np.testing.assert_array_equal(kept["weight"], before[0])


def test_a_stop_request_takes_effect_after_the_running_step(tmp_path, runs_ahead):
    class Stop(Hook):
        def before_step(self, trainer, batch):
            if trainer.next_step == 2:
                trainer.stop.make()

    mine = trainer(tmp_path, Loader())
    saver = saving(tmp_path)
    mine.fit([Stop(), saver])
    assert mine.step == 3
    assert load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress["step"] == 3


def test_a_data_error_during_a_running_step_saves_that_step_as_well(tmp_path, runs_ahead):
    """The step count of the checkpoint matches its weights."""

    def broken():
        raise UserError("the disk is gone")

    mine = trainer(tmp_path, Loader(actions={2: broken}))
    with pytest.raises(UserError, match="the disk is gone"):
        mine.fit([saving(tmp_path)])
    assert load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress["step"] == 2


def test_batch_norm_statistics_are_saved_and_restored(tmp_path, graph_mode):
    batch = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)
    trainers = []
    for _ in range(2):
        mine = trainer(tmp_path, Loader())
        mine.train_step = TrainStep(Convolved(as_gradients=True), StepOptions()).set_train()
        trainers.append(mine)
    first, second = trainers
    first.train_step.run([batch], 0.1)
    statistics = first.train_step.statistics.moving.asnumpy().copy()
    snapshot = first.snapshot()
    saved = [snapshot.weights[name].ravel() for name in ("1.moving_mean", "3.moving_mean")]
    np.testing.assert_array_equal(np.concatenate(saved), statistics[:7])
    assert not np.allclose(statistics[:7], 0)
    np.testing.assert_array_equal(first.weights_to_score()["1.moving_mean"], saved[0])
    second.restore(snapshot, tmp_path)
    np.testing.assert_array_equal(second.train_step.statistics.moving.asnumpy(), statistics)
