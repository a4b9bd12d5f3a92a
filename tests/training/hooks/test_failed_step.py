"""A non-finite step is saved before it ends the run."""

import json

import numpy as np
import pytest

from msdet.errors import UserError
from msdet.training.hooks.failed_step import KeepFailedStep
from tests.training.one_layer import Loader, saving, steps_in, trainer

pytestmark = pytest.mark.usefixtures("uncompiled")


def test_a_non_finite_loss_ends_a_float32_run_and_is_saved(tmp_path):
    mine = trainer(tmp_path, Loader(bright=(5,)))
    with pytest.raises(UserError, match=r"the loss is not finite in epoch 1, step 5: mean .*, peak inf; images a1, b1"):
        mine.fit([saving(tmp_path), KeepFailedStep()])
    # The weights are those before the step; the last checkpoint is that of the previous epoch.
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


def test_the_message_says_if_the_step_could_not_be_saved(tmp_path):
    (tmp_path / "debug").write_text("a file in the way")
    with pytest.raises(UserError, match=r"not finite.*\n.*the step could not be saved: .*debug"):
        trainer(tmp_path, Loader(bright=(0,))).fit([KeepFailedStep()])
