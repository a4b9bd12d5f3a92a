"""Which checkpoints a training saves, and which it removes."""

import pytest

from msdet.training.loop import Hook
from tests.training.one_layer import Loader, resumed, saving, scoring, steps_in, trainer

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_extra_checkpoints_are_removed_when_the_next_one_is_saved(tmp_path):
    """Evaluation every epoch, a checkpoint every third epoch, two of them kept."""
    seen = []

    def evaluate(weights):
        seen.append(steps_in(tmp_path))
        return {"AP": 0.5}

    mine = trainer(tmp_path, Loader(steps=1), "--max_epoch", "10")
    mine.fit(scoring(saving(tmp_path, interval=3, keep=2), evaluate))
    assert seen == [[1], [2], [3], [3, 4], [3, 5], [3, 6], [3, 6, 7], [3, 6, 8], [6, 9], [9, 10]]
    assert steps_in(tmp_path) == [9, 10]


@pytest.mark.parametrize("named", [False, True])
def test_a_checkpoint_inside_an_epoch_is_removed_after_an_automatic_resume(tmp_path, named):
    class StopInside(Hook):
        def after_step(self, trainer):
            if trainer.step == 6:
                trainer.stop.make()

    trainer(tmp_path, Loader()).fit([StopInside(), saving(tmp_path)])
    assert steps_in(tmp_path) == [4, 6]
    flags = ("--resume", "some.ckpt" if named else "auto")
    resumed(tmp_path, Loader(), *flags).fit([saving(tmp_path)])
    assert steps_in(tmp_path) == ([4, 6, 8] if named else [4, 8])
