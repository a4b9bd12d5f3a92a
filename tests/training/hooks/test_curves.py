"""Training curves on disk: resumed runs, and messages that name a file that cannot be written."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from msdet.errors import UserError
from msdet.training.hooks.curves import Curves

RESULT = SimpleNamespace(rate=0.1, loss=2.0, losses={"box": 2.0}, gradient_norm=1.0, loss_scale=1.0)
TRAINER = SimpleNamespace(step=1, epoch=1, scored_epoch=1, loss_names=["box"], result=RESULT)


@pytest.fixture
def curves(tmp_path):
    hook = Curves(tmp_path)
    hook.before_train(TRAINER)
    return hook


def test_a_full_disk_is_reported_with_the_name_of_the_csv_file(curves, tmp_path):
    with Path("/dev/full").open("w") as full:
        curves._train = curves._eval = full
        curves.after_step(TRAINER)
        with pytest.raises(UserError, match=rf"{tmp_path}/train\.csv cannot be written: No space left on device"):
            curves.after_epoch(TRAINER)
        with pytest.raises(UserError, match=r"eval\.csv cannot be written: No space left on device"):
            curves.write_evaluation(TRAINER, {"AP": 0.1, "AP50": 0.2})
        curves.after_train(TRAINER)  # must not raise again


def test_a_full_disk_is_reported_with_the_name_of_the_event_file(curves, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(curves._events._writer, "flush", full)
    with pytest.raises(UserError, match=r"events\.out\.tfevents\..* cannot be written: No space left on device"):
        curves.after_epoch(TRAINER)
    monkeypatch.setattr(curves._events._writer, "write_event", full)
    with pytest.raises(UserError, match=r"tfevents\..* cannot be written"):
        curves.after_step(TRAINER)


def test_repeated_steps_and_evaluations_are_written_once(tmp_path):
    """Steps after the checkpoint, and an evaluation that the checkpoint does not record."""
    first = Curves(tmp_path)
    first.before_train(SimpleNamespace(**vars(TRAINER) | {"step": 0, "scored_epoch": 0}))
    for step in (1, 2, 3):
        first.after_step(SimpleNamespace(**vars(TRAINER) | {"step": step}))
    for epoch, step in ((1, 1), (2, 2)):
        trainer = SimpleNamespace(**vars(TRAINER) | {"step": step, "epoch": epoch})
        first.write_evaluation(trainer, {"AP": 0.1 * epoch, "AP50": 0.2})
    first.after_train(TRAINER)
    again = Curves(tmp_path)
    again.before_train(SimpleNamespace(**vars(TRAINER) | {"step": 2, "epoch": 2, "scored_epoch": 1}))
    again.after_train(TRAINER)
    steps = [row.split(",")[0] for row in (tmp_path / "train.csv").read_text().splitlines()]
    assert steps == ["step", "1", "2"]
    epochs = [row.split(",")[1] for row in (tmp_path / "eval.csv").read_text().splitlines()]
    assert epochs == ["epoch", "1"]
