"""Which processes join others, and on which card they work."""

import logging

import pytest

import eval as evaluation
import train as training
from msdet.config import load_config
from msdet.errors import UsageError, UserError, run_command
from msdet.runtime.ranks import device_id_of, joins_group

pytestmark = pytest.mark.usefixtures("at_root")
CONFIG = "configs/yolov4.yaml"


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch):
    for name in ("MS_WORKER_NUM", "OMPI_COMM_WORLD_SIZE", "RANK_SIZE", "DEVICE_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asking_file(tmp_path):
    """A file of the old zoo that asks for several processes."""
    path = tmp_path / "imagenet_config.yaml"
    path.write_text("net: darknet53\nrun_distributed: True\ndevice_num: ''\n")
    return path


@pytest.mark.parametrize("variable", ["MS_WORKER_NUM", "OMPI_COMM_WORLD_SIZE"])
def test_what_a_launcher_has_started_is_joined(monkeypatch, caplog, variable):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv(variable, "8")
    assert joins_group(load_config(CONFIG), "train")
    assert "one of 8 processes" in caplog.text
    assert not joins_group(load_config(CONFIG, ["--is_distributed=0"]), "train")
    monkeypatch.setenv(variable, "1")
    assert not joins_group(load_config(CONFIG), "train")
    monkeypatch.delenv(variable)
    assert not joins_group(load_config(CONFIG), "train")
    assert joins_group(load_config(CONFIG, ["--is_distributed=1"]), "train")


@pytest.mark.parametrize(("main", "output"), [(training.main, "--ckpt_path"), (evaluation.main, "--log_path")])
def test_eight_networks_are_not_trained_in_silence(monkeypatch, tmp_path, capsys, main, output):
    """ModelArts starts a process a card, and tells each of RANK_SIZE and a rank table."""
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.setenv("RANK_ID", "3")
    flags = ["--config", CONFIG, "--data_dir", str(tmp_path), output, str(tmp_path)]
    assert run_command(main, [*flags, "--pretrained", "x.ckpt"]) == 1
    message = capsys.readouterr().err
    assert "RANK_SIZE=8" in message and "msrun --worker_num=8 --local_worker_num=8" in message
    assert not joins_group(load_config(CONFIG), "alone"), "an export is one process's work wherever it runs"
    monkeypatch.setenv("MS_WORKER_NUM", "8")
    assert joins_group(load_config(CONFIG), "train") and not joins_group(load_config(CONFIG), "alone")
    monkeypatch.delenv("MS_WORKER_NUM")
    assert not joins_group(load_config(CONFIG, ["--is_distributed=0"]), "train")


def test_a_file_asks_for_processes_of_training(monkeypatch, asking_file, caplog):
    caplog.set_level(logging.INFO)
    cfg = load_config(str(asking_file))
    assert cfg.is_distributed and joins_group(cfg, "train")
    assert not joins_group(cfg, "evaluate")
    assert "imagenet_config.yaml" in caplog.text and "in a single process" in caplog.text
    assert joins_group(load_config(str(asking_file), ["--is_distributed=1"]), "evaluate")
    monkeypatch.setenv("MS_WORKER_NUM", "2")
    assert joins_group(cfg, "evaluate")


def test_the_card_is_the_typed_one_or_that_of_the_environment(monkeypatch, tmp_path):
    (tmp_path / "own.yaml").write_text("model: yolov4\ndevice_id: 2\n")
    assert [device_id_of(load_config(str(tmp_path / "own.yaml"), flags)) for flags in ([], ["--device_id=5"])] == [2, 5]
    monkeypatch.setenv("DEVICE_ID", "7")
    assert [device_id_of(load_config(str(tmp_path / "own.yaml"), flags)) for flags in ([], ["--device_id=5"])] == [7, 5]
    monkeypatch.setenv("DEVICE_ID", "seven")
    with pytest.raises(UsageError, match="DEVICE_ID in the environment is 'seven'"):
        device_id_of(load_config(CONFIG))


def test_only_a_number_counts(monkeypatch):
    for text in ("", " "):
        monkeypatch.setenv("RANK_SIZE", text)
        assert not joins_group(load_config(CONFIG), "train")
    monkeypatch.setenv("RANK_SIZE", "all")
    with pytest.raises(UserError, match="RANK_SIZE in the environment is 'all'"):
        joins_group(load_config(CONFIG), "train")
