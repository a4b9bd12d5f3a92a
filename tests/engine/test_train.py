"""Where a resumed run lies."""

from src.config import load_config
from src.engine import train


def test_a_checkpoint_may_be_named_from_within_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "outputs" / "run" / "ckpt_0"
    folder.mkdir(parents=True)
    (folder / "yolov3-1_4.state.json").touch()
    monkeypatch.setattr(train, "load_snapshot", lambda manifest: manifest.name)
    cfg = load_config("configs/yolov3_shapes.yaml", ["--resume=yolov3-1_4.ckpt"])
    monkeypatch.chdir(folder)
    assert train._find_run(cfg, tmp_path / "fresh", [])[0] == tmp_path / "outputs" / "run"
