"""A session completes the configuration step by step."""

import json
import logging

import numpy as np
import pytest

from msdet.checkpoints.weights_file import save_weights
from msdet.config import load_config
from msdet.errors import UsageError
from msdet.runtime.start import Runtime
from msdet.session import session as module
from msdet.session.session import Session
from tests.data.conftest import CocoFolder
from tests.in_process import own_log

pytestmark = pytest.mark.usefixtures("at_root")
CARD = {"model": "yolov3", "class_names": ["cat", "dog"], "num_classes": 2, "network": {"bn_eps": 0.03125}}


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a session with weights that have a card, on a given rank."""
    save_weights(tmp_path / "w.ckpt", {"x": np.zeros(1, np.float32)}, CARD)

    def open_session(*flags, rank=0):
        monkeypatch.setattr(module, "start", lambda cfg, work: Runtime("CPU", rank=rank, group_size=2))
        flags = [f"--pretrained={tmp_path}/w.ckpt", f"--data_dir={tmp_path}/data", *flags]
        return Session(load_config("configs/yolov3.yaml", flags, "eval"))

    return open_session


def test_the_card_of_the_weights_completes_the_configuration(opened):
    session = opened("--num_classes=0")
    session.load_weights()
    assert session.cfg.bn_eps == 0.03125 and session.cfg.class_names == ("cat", "dog")
    assert session.card["model"] == "yolov3" and list(session.weights) == ["x"]
    assert session.recipe.cfg is session.cfg and session.task_name == "detect"


def test_a_training_keeps_the_classes_of_its_own_data(opened):
    session = opened("--num_classes=0")
    session.load_weights(with_classes=False)
    assert session.cfg.bn_eps == 0.03125 and session.cfg.class_names == ()


def test_a_typed_value_that_contradicts_the_card_is_refused(opened):
    session = opened("--bn_eps=0.05")
    with pytest.raises(UsageError, match="bn_eps"):
        session.load_weights()


def test_the_dataset_completes_the_classes(opened, tmp_path):
    folder = CocoFolder(tmp_path / "data")
    folder.image_dir = folder.image_dir.rename(folder.root / "val")
    folder.ann_file = folder.ann_file.with_name("val.json")
    folder.add_image(1, 80, 60, boxes=[[0, 0, 40, 30]])
    folder.write()
    names = [category["name"] for category in json.loads(folder.ann_file.read_text())["categories"]]
    session = opened("--num_classes=0")
    session.open_dataset("val")
    assert list(session.cfg.class_names) == names and len(session.dataset) == 1


@pytest.mark.parametrize(
    ("rank", "of_every_rank", "file"),
    [(0, False, "log.txt"), (1, False, None), (0, True, "log.txt"), (1, True, "log_1.txt")],
)
def test_each_rank_has_its_own_log_file(opened, tmp_path, rank, of_every_rank, file):
    session = opened(rank=rank)
    with own_log():
        session.log_to(tmp_path / "out", of_every_rank)
        logging.getLogger("msdet").info("a line")
    assert session.folder == tmp_path / "out"
    assert [path.name for path in tmp_path.glob("out/*")] == ([file] if file else [])
