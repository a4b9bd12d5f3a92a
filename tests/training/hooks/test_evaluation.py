"""When a training is evaluated, which weights are the best, and what an interrupted evaluation costs."""

from types import SimpleNamespace

import numpy as np
import pytest

from msdet.checkpoints.state import checkpoints_in, load_snapshot
from msdet.training.hooks.evaluation import Evaluate
from tests.training.one_layer import Loader, resumed, saving, scoring, trainer

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_a_stopped_evaluation_is_repeated_on_resume(tmp_path):
    """Also after the last epoch, when there is nothing left to train."""
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


def test_a_failing_evaluation_costs_no_trained_epoch(tmp_path):
    """The checkpoint is there; on resume the evaluation is repeated and recorded in the checkpoint."""

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


@pytest.mark.parametrize(("start", "interval", "scored"), [(1, 1, [1, 2, 3, 4, 5, 6]), (2, 3, [2, 5, 6]), (9, 1, [6])])
def test_evaluations_run_from_start_epoch_at_the_interval_and_after_the_last_epoch(tmp_path, start, interval, scored):
    mine, epochs = trainer(tmp_path, Loader(steps=1), "--max_epoch=6"), []
    saver = saving(tmp_path)

    def evaluate(_):
        epochs.append(mine.epoch)
        return {"AP": 0.5}

    mine.fit([saver, Evaluate(evaluate, saver, start, interval, None, [])])
    assert epochs == scored


def test_the_best_weights_are_those_with_the_best_ap():
    """Not those with the best AP50, nor the latest."""
    answers = iter([(0.2, 0.5), (0.3, 0.4), (0.25, 0.9)])
    hook = Evaluate.__new__(Evaluate)
    hook.evaluate = lambda _: dict(zip(("AP", "AP50"), next(answers), strict=True))
    hook.best_path, hook.on_scored = None, []
    hook.saver = SimpleNamespace(save=lambda _: None, record_scores=lambda _: None)
    trainer = SimpleNamespace(weights_to_score=dict, best_score=None, epoch=0, card={})
    best = []
    for trainer.epoch in (1, 2, 3):
        hook._score(trainer)
        best.append(trainer.best_score)
    assert best == [0.2, 0.3, 0.3]
