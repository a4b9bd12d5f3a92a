"""The training loop where something goes wrong, around a network of one layer."""

import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from msdet.checkpoints.state import CheckpointFolder, checkpoints_in, load_snapshot
from msdet.checkpoints.weights_file import load_weights
from msdet.config import load_config
from msdet.data.loading.batch import Batch
from msdet.errors import UsageError, UserError
from msdet.runtime.device import TRAITS
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from msdet.training import loop as trainer_module
from msdet.training.hooks import log as log_hooks
from msdet.training.hooks.checkpoints import SaveCheckpoints
from msdet.training.hooks.evaluation import Evaluate
from msdet.training.hooks.failed_step import KeepFailedStep
from msdet.training.hooks.log import LogLines
from msdet.training.loop import Hook, Trainer
from msdet.training.schedules import build_schedule
from msdet.training.step import StepOptions, TrainStep
from tests.training.told_layers import Convolved

pytestmark = pytest.mark.usefixtures("uncompiled")


class OneLayer(nn.Cell):
    """Loss: the mean of the layer's output; a pixel of 255 in the first image makes it infinite, with a finite
    gradient."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = nn.Dense(3, 1)

    def construct(self, images, valid_sizes, boxes, labels, size):
        pixels = ops.cast(images[:, 0, 0], ms.float32)
        loss = ops.reduce_mean(self.network(pixels / 255))
        peak = ops.stop_gradient(-ops.log(255 - ops.reduce_max(pixels[0])))
        return loss + peak, (loss, peak)


class Samples:
    def __getitem__(self, index):
        return type("Sample", (), {"image_path": f"train/{index}.jpg"})


class Loader:
    """Batches of two images; `deeds` says what happens where one is asked for."""

    def __init__(self, steps=4, deeds=None, bright=()):
        self.steps_per_epoch = steps
        self.deeds = deeds or {}
        self.bright = bright
        self.dataset = type("Dataset", (), {"samples": Samples()})
        self.boxes_cut = 0

    def start(self):
        pass

    def epoch(self, epoch, start=0):
        for number in range(start, self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + number
            if step in self.deeds and self.deeds[step]():
                return
            images = np.full((2, 1, 1, 3), 255 if step in self.bright else 7, np.uint8)
            geometry = [type("Geometry", (), {"valid_size": (1, 1)})] * 2
            boxes, labels = np.zeros((2, 2, 4), np.float32), np.int32([[1, -1], [-1, -1]])
            boxes[0, 0] = (1, 2, 3, 4)
            yield Batch(
                images=images, boxes=boxes, labels=labels, geometry=geometry, image_ids=[f"a{number}", f"b{number}"],
                size=(1, 1), indices=np.arange(2), epoch=epoch, number=number,
            )  # fmt: skip


def trainer(folder, loader, *flags, options=None, schedule=None, stop=None):
    cfg = load_config("configs/yolov3_shapes.yaml", ["--max_epoch", "2", *flags])
    step = TrainStep(OneLayer(), options or StepOptions())
    step.set_train()
    schedule = schedule or (lambda epoch, step: 0.01)
    return Trainer(cfg, Runtime("CPU"), step, ("mean", "peak"), loader, schedule, folder, {"model": "yolov3",
                   "class_names": ["red", "blue"]}, "data", stop or StopRequest())  # fmt: skip


def saving(folder, interval=1, keep=9):
    return SaveCheckpoints(CheckpointFolder(folder / "ckpt_0", "yolov3", keep), interval)


def scoring(saver, evaluate, best=None):
    """The two hooks that save each epoch and score it."""
    return [saver, Evaluate(evaluate, saver, 1, 1, best, [])]


def resumed(folder, loader, *flags, **options):
    newest = next(checkpoints_in(folder / "ckpt_0"))
    mine = trainer(folder, loader, *flags, **options)
    mine.restore(load_snapshot(newest), newest)
    return mine


def steps_in(folder):
    return sorted(load_snapshot(path).progress["step"] for path in checkpoints_in(folder / "ckpt_0"))


def test_a_loss_that_is_not_finite_stops_a_float_run_and_is_kept(tmp_path):
    mine = trainer(tmp_path, Loader(bright=(5,)))
    with pytest.raises(UserError, match=r"the loss is not finite in epoch 1, step 5: mean .*, peak inf; images a1, b1"):
        mine.fit([saving(tmp_path), KeepFailedStep()])
    # The weights are those before the step, and those of the epoch before are saved.
    assert mine.step == 5 and steps_in(tmp_path) == [4]
    folder = tmp_path / "debug" / "step_5"
    report = json.loads((folder / "report.json").read_text())
    assert report["losses"]["peak"] == "inf" and report["images"][0] == {
        "id": "a1", "file": "train/0.jpg", "classes": ["blue"], "boxes": [[1, 2, 3, 4]]
    }  # fmt: skip
    with np.load(folder / "batch.npz") as batch:
        assert batch["images"].shape == (2, 1, 1, 3) and (batch["images"] == 255).all()
    assert {path.name for path in folder.iterdir()} == {
        "batch.npz", "config.yaml", "report.json", "weights.ckpt", "weights.json"
    }  # fmt: skip


def test_a_step_that_is_not_finite_changes_no_weight(tmp_path):
    mine = trainer(tmp_path, Loader(bright=(0,)))
    before = mine.train_step.loss_cell.network.weight.asnumpy().copy()
    with pytest.raises(UserError, match="The weights were not updated"):
        mine.fit([])
    np.testing.assert_array_equal(mine.train_step.loss_cell.network.weight.asnumpy(), before)


def test_overflows_of_a_dynamic_scale_are_counted_and_borne_for_a_while(tmp_path, caplog):
    flags = ("--amp_level", "O2", "--dynamic_loss_scale", "1", "--max_skipped_steps", "3")
    options = StepOptions(loss_scale=8.0, dynamic_loss_scale=True)
    mine = trainer(tmp_path, Loader(bright=(1, 2, 4)), *flags, options=options)
    mine.fit([LogLines(100), saving(tmp_path)])
    assert (mine.step, mine.skipped, mine.skipped_in_a_row) == (8, 3, 0)
    assert "step 3: gradient overflow, update left out, loss scale was 4; 2 left out so far, 2 in a row" in caplog.text
    progress = load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress
    assert (progress["skipped"], progress["skipped_in_a_row"]) == (3, 0)
    mine = trainer(tmp_path, Loader(bright=(2, 3, 4, 5)), *flags, options=options)
    with pytest.raises(UserError, match="3 times in a row in epoch 1, step 4: .*loss scale 2; images a0"):
        mine.fit([KeepFailedStep()])
    assert json.loads((tmp_path / "debug" / "step_4" / "report.json").read_text())["skipped_in_a_row"] == 3


def test_overflows_of_a_static_scale_are_borne_as_well(tmp_path, caplog):
    flags = ("--amp_level", "O2", "--max_skipped_steps", "3")
    options = StepOptions(loss_scale=8.0)
    mine = trainer(tmp_path, Loader(bright=(1, 2, 4)), *flags, options=options)
    mine.fit([LogLines(100)])
    assert (mine.step, mine.skipped) == (8, 3) and "loss scale was 8; 2 left out so far, 2 in a row" in caplog.text
    mine = trainer(tmp_path, Loader(bright=(2, 3, 4)), *flags, options=options)
    with pytest.raises(UserError, match="3 times in a row in epoch 1, step 4"):
        mine.fit([])


def test_where_the_step_cannot_be_kept_the_message_says_so(tmp_path):
    (tmp_path / "debug").write_text("a file in the way")
    with pytest.raises(UserError, match=r"not finite.*\n.*the step could not be kept: .*debug"):
        trainer(tmp_path, Loader(bright=(0,))).fit([KeepFailedStep()])


def test_what_was_trained_is_saved_before_a_data_error_ends_the_run(tmp_path):
    def missing():
        raise UserError("image 7.jpg is missing")

    with pytest.raises(UserError, match="7.jpg is missing"):
        trainer(tmp_path, Loader(deeds={6: missing})).fit([saving(tmp_path)])
    assert steps_in(tmp_path) == [4, 6]


def test_a_request_to_stop_is_heeded_while_a_batch_is_waited_for(tmp_path):
    stop = StopRequest()

    def stalled():
        threading.Timer(0.2, stop.make).start()
        deadline = time.monotonic() + 30
        while not stop.is_made() and time.monotonic() < deadline:
            time.sleep(0.01)
        return stop.is_made()

    mine = trainer(tmp_path, Loader(deeds={2: stalled}), stop=stop)
    mine.fit([saving(tmp_path)])
    assert mine.should_stop and steps_in(tmp_path) == [2]


def test_all_hooks_end_also_where_one_of_them_fails(tmp_path):
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


def test_an_evaluation_that_was_stopped_is_made_up_for(tmp_path):
    """After the last epoch too, where nothing is left to train."""
    calls, answers = [], [{"AP": 0.5}, None, {"AP": 0.25}]

    def evaluate(weights):
        calls.append(weights)
        return answers[len(calls) - 1]

    trainer(tmp_path, Loader()).fit(scoring(saving(tmp_path), evaluate, tmp_path / "best.ckpt"))
    assert len(calls) == 2
    assert load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress["scored_epoch"] == 1
    again = resumed(tmp_path, Loader())
    again.fit(scoring(saving(tmp_path), evaluate, tmp_path / "best.ckpt"))
    assert len(calls) == 3 and again.scored_epoch == 2 and again.best_score == 0.5
    np.testing.assert_array_equal(calls[2]["weight"], calls[1]["weight"])


def test_an_evaluation_that_fails_costs_no_trained_epoch(tmp_path):
    """Whatever fails: the checkpoint is there, and the evaluation is made up for, which the checkpoint learns of."""

    def fails(weights):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        trainer(tmp_path, Loader()).fit(scoring(saving(tmp_path, interval=5), fails))
    newest = next(checkpoints_in(tmp_path / "ckpt_0"))
    progress = load_snapshot(newest).progress
    assert (progress["step"], progress["scored_epoch"], progress["best_score"]) == (4, 0, None)

    scores = iter((0.5, 0.25))
    again = resumed(tmp_path, Loader())
    again.fit(scoring(saving(tmp_path), lambda weights: {"AP": next(scores)}, tmp_path / "best.ckpt"))
    progress = [load_snapshot(path).progress for path in checkpoints_in(tmp_path / "ckpt_0")]
    assert [(p["epoch"], p["scored_epoch"], p["best_score"], p["best_epoch"]) for p in progress] == [
        (2, 2, 0.5, 1), (1, 1, 0.5, 1)
    ]  # fmt: skip
    assert next(scores, None) is None


def test_checkpoints_between_two_of_the_interval_give_way(tmp_path):
    """An evaluation every epoch, a checkpoint every third, of which two are kept."""
    seen = []

    def evaluate(weights):
        seen.append(steps_in(tmp_path))
        return {"AP": 0.5}

    mine = trainer(tmp_path, Loader(steps=1), "--max_epoch", "10")
    mine.fit(scoring(saving(tmp_path, interval=3, keep=2), evaluate))
    assert seen == [[1], [2], [3], [3, 4], [3, 5], [3, 6], [3, 6, 7], [3, 6, 8], [6, 9], [9, 10]]
    assert steps_in(tmp_path) == [9, 10]


@pytest.mark.parametrize("named", [False, True])
def test_a_checkpoint_inside_an_epoch_gives_way_when_the_run_goes_on_by_itself(tmp_path, named):
    class StopInside(Hook):
        def after_step(self, trainer):
            if trainer.step == 6:
                trainer.stop.make()

    trainer(tmp_path, Loader()).fit([StopInside(), saving(tmp_path)])
    assert steps_in(tmp_path) == [4, 6]
    flags = ("--resume", "some.ckpt" if named else "auto")
    resumed(tmp_path, Loader(), *flags).fit([saving(tmp_path)])
    assert steps_in(tmp_path) == ([4, 6, 8] if named else [4, 8])


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
def test_a_run_goes_on_at_the_same_share_of_the_epoch_with_other_steps(tmp_path, before, after):
    """As with another batch size: the rate follows the epochs, and the run ends with the last one."""

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


def test_windows_go_on_over_epochs_and_checkpoints(tmp_path):
    """Three steps of an epoch, windows of two: the window that an epoch leaves open is closed in the next."""
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


def test_a_run_goes_on_with_other_windows_and_averages(tmp_path):
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


def test_gradients_that_would_never_be_applied_are_told(tmp_path, caplog):
    with pytest.raises(UsageError, match="accumulate_steps 9 is more than the 8 steps of this training"):
        trainer(tmp_path, Loader(), "--accumulate_steps", "9", options=StepOptions(accumulate_steps=9)).fit([])
    trainer(tmp_path, Loader(), "--accumulate_steps", "3", options=StepOptions(accumulate_steps=3)).fit([])
    assert "accumulate_steps 3 does not divide the steps to do: the last 2 make no update" in caplog.text
    caplog.clear()
    trainer(tmp_path, Loader(), "--accumulate_steps", "4", options=StepOptions(accumulate_steps=4)).fit([])
    assert "accumulate_steps" not in caplog.text


def test_speeds_and_times_leave_evaluations_out(tmp_path, caplog, monkeypatch):
    """A second a step of two images, an hour an evaluation; one is made up for before the first step."""
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


@pytest.mark.parametrize(("start", "interval", "scored"), [(1, 1, [1, 2, 3, 4, 5, 6]), (2, 3, [2, 5, 6]), (9, 1, [6])])
def test_epochs_are_scored_from_the_start_on_at_the_interval_and_at_the_end(tmp_path, start, interval, scored):
    mine, epochs = trainer(tmp_path, Loader(steps=1), "--max_epoch=6"), []
    saver = saving(tmp_path)

    def evaluate(_):
        epochs.append(mine.epoch)
        return {"AP": 0.5}

    mine.fit([saver, Evaluate(evaluate, saver, start, interval, None, [])])
    assert epochs == scored


def test_a_request_to_another_rank_stops_this_one_after_the_same_step(tmp_path):
    """Rank 0, where rank 1 is asked to stop during the third step."""

    mine = trainer(tmp_path, Loader())
    mine.runtime = Runtime("CPU", rank=0, group_size=2)
    launch = mine.train_step.launch

    def launch_with_another(*batch, **options):
        numbers = replace(launch(*batch, **options).read(), is_stop_asked=mine.step == 2)
        return SimpleNamespace(read=lambda: numbers)

    mine.train_step.launch = launch_with_another
    mine.fit([])
    assert mine.step == 3 and not mine.stop.is_made()


@pytest.fixture
def runs_ahead(monkeypatch):
    """As on a device that the host need not wait for."""
    monkeypatch.setattr(trainer_module, "device_traits", lambda: replace(TRAITS["CPU"], runs_ahead=True))
    launch = TrainStep.launch
    monkeypatch.setattr(TrainStep, "launch", lambda *batch, ahead, **options: launch(*batch, **options))


class Seen(Hook):
    """What a hook is told, and when."""

    def __init__(self):
        self.events = []

    def before_step(self, trainer, batch):
        self.events.append(("before", batch.number, trainer.next_step))

    def after_step(self, trainer):
        self.events.append(("after", trainer.step, trainer.result.rate))

    def after_epoch(self, trainer):
        self.events.append(("epoch", trainer.epoch, trainer.step))


def test_a_step_is_read_when_the_next_is_launched(tmp_path, runs_ahead):
    seen = Seen()
    mine = trainer(tmp_path, Loader(), schedule=lambda epoch, step: 0.01 + 0.1 * epoch + 0.001 * step)
    mine.fit([seen])
    count = mine.steps_per_epoch
    first = [event for event in seen.events[: 2 * count] if event[0] != "epoch"]
    assert first[:4] == [("before", 0, 0), ("before", 1, 1), ("after", 1, 0.01), ("before", 2, 2)]
    # Hooks hear of the end of an epoch when all its steps are read.
    assert seen.events[2 * count] == ("epoch", 1, count)
    assert [event[2] for event in seen.events if event[0] == "after"] == [
        0.01 + 0.1 * epoch + 0.001 * step for epoch in range(2) for step in range(count)
    ]


@pytest.mark.parametrize("flags", [(), ("--accumulate_steps", "3"), ("--ema_decay", "0.9")], ids=str)
def test_reading_late_changes_no_number(tmp_path, request, flags):
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


def test_a_failed_step_that_is_noticed_late_is_kept_as_it_was(tmp_path, runs_ahead):
    """The weights are those that it met, although another step was launched since."""
    mine = trainer(tmp_path, Loader(bright=(1,)), options=StepOptions(most_skips=1))
    before = []

    class Note(Hook):
        def after_step(self, trainer):
            before.append(trainer.train_step.loss_cell.network.weight.asnumpy().copy())

    with pytest.raises(UserError, match="step 1: .*images a1, b1"):
        mine.fit([Note(), KeepFailedStep()])
    kept, _ = load_weights(tmp_path / "debug" / "step_1" / "weights.ckpt")
    # What the first step has made of them, read after the second was launched, which changes nothing.
    np.testing.assert_array_equal(kept["weight"], before[0])


def test_a_request_to_stop_is_heeded_after_the_running_step(tmp_path, runs_ahead):
    class Stop(Hook):
        def before_step(self, trainer, batch):
            if trainer.next_step == 2:
                trainer.stop.make()

    mine = trainer(tmp_path, Loader())
    saver = saving(tmp_path)
    mine.fit([Stop(), saver])
    assert mine.step == 3
    assert load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress["step"] == 3


def test_a_data_error_beside_a_running_step_saves_that_step_as_well(tmp_path, runs_ahead):
    """The checkpoint counts the steps that its weights have seen."""

    def broken():
        raise UserError("the disk is gone")

    mine = trainer(tmp_path, Loader(deeds={2: broken}))
    with pytest.raises(UserError, match="the disk is gone"):
        mine.fit([saving(tmp_path)])
    assert load_snapshot(next(checkpoints_in(tmp_path / "ckpt_0"))).progress["step"] == 2


def test_told_statistics_go_into_checkpoints_and_back(tmp_path, graph_mode):
    batch = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)
    trainers = []
    for _ in range(2):
        mine = trainer(tmp_path, Loader())
        mine.train_step = TrainStep(Convolved(is_told=True), StepOptions()).set_train()
        trainers.append(mine)
    first, second = trainers
    first.train_step.run([batch], 0.1)
    statistics = first.train_step.told.moving.asnumpy().copy()
    snapshot = first.snapshot()
    told = [snapshot.weights[name].ravel() for name in ("1.moving_mean", "3.moving_mean")]
    np.testing.assert_array_equal(np.concatenate(told), statistics[:7])
    assert not np.allclose(statistics[:7], 0)
    np.testing.assert_array_equal(first.weights_to_use()["1.moving_mean"], told[0])
    second.restore(snapshot, tmp_path)
    np.testing.assert_array_equal(second.train_step.told.moving.asnumpy(), statistics)
