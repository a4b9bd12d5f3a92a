"""A folder of valid input for all commands, and cases that make one thing in it invalid."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from msdet.errors import run_command

TINY = ("--backbone_shape=4,8,8,16,16,16", "--backbone_layers=1,1,1,1,1")
_SHAPES = ("--config=configs/yolov3_shapes.yaml", *TINY, "--testing_shape=64", "--num_parallel_workers=0")
_MODEL = ("--config=configs/yolov3.yaml", "--num_classes=0", "--testing_shape=64", "--num_parallel_workers=0")
# Flags of each command with which the valid input is accepted; {root} is the folder of the case.
COMMANDS = {
    "train": (
        "train", *_SHAPES, "--training_shape=64", "--per_batch_size=4", "--run_eval=0", "--progress=off",
        "--max_epoch=1", "--data_dir={root}/data", "--ckpt_path={root}/out", "--run_name=r",
    ),
    "eval": ("eval", *_MODEL, "--data_dir={root}/data", "--pretrained={root}/w.ckpt", "--log_path={root}/out"),
    "test": ("test", *_MODEL, "--data_dir={root}/data", "--pretrained={root}/w.ckpt", "--log_path={root}/out"),
    "export": ("export", *_MODEL, "--ckpt_file={root}/w.ckpt", "--file_name={root}/out/net"),
    "predict": (
        "predict", *_MODEL, "--pretrained={root}/w.ckpt", "--source={root}/data/train", "--output={root}/out",
    ),
    "postprocess": (
        "postprocess", *_MODEL, "--data_dir={root}/data", "--pretrained={root}/net.onnx", "--log_path={root}/out",
    ),
    "weights": (
        "msdet.importers.command", "--config=configs/yolov3.yaml", *TINY, "--num_classes=2", "--class_names=red,blue",
        "--source={root}/x", "--output={root}/out/x.ckpt",
    ),
    "check": (
        "msdet.tools.check.check", "--config=configs/yolov3.yaml", "--num_classes=0", "--data_dir={root}/data",
        "--splits=train",
    ),
    "create_data": (
        "msdet.tools.create_data", "--config=configs/yolov3.yaml", "--num_classes=0", "--data_dir={root}/data",
        "--output={root}/out/made",
    ),
    "hccl_tools": ("msdet.tools.hccl_tools", "--output={root}/out"),
    "launch": ("msdet.tools.launcher.launch",),
    "replay": ("msdet.training.replay.command",),
}  # fmt: skip
# Files that would appear in the current folder if code in an input file were executed.
TRACES_OF_EXECUTION = ("here", "evil")
# Files that a failed run may leave: log, configuration, lock, and tables with a header only.
_ALLOWED = ("log.txt", "config.yaml", ".lock", "train.csv", "eval.csv")


@dataclass
class Case:
    """An invalid input, and the expected exit code and message.

    Attributes:
        name: what is invalid.
        command: a key of `COMMANDS`.
        flags: appended to those of the command; {root} is the folder of the case.
        code: exit code.
        fragments: expected in the message.
        modify: makes the input in the folder invalid; None if the flags are.
        bare: do not use the flags of `COMMANDS`.
    """

    name: str
    command: str
    flags: tuple[str, ...]
    code: int
    fragments: tuple[str, ...]
    modify: Callable[[Workspace], None] | None = None
    bare: bool = False

    def argv(self, root: Path) -> list[str]:
        own = () if self.bare else COMMANDS[self.command][1:]
        return [flag.format(root=root) for flag in (*own, *self.flags)]


class Workspace:
    """A folder with a dataset, a checkpoint and an exported file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"

    def write(self, name: str, content: str | bytes) -> Path:
        """Writes a file in the folder and returns its path."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def coco(self, change: Callable[[dict], object]) -> None:
        """Edits the annotations of the training split."""
        path = self.data / "annotations" / "train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def json(self, name: str, change: Callable[[dict], object]) -> None:
        """Edits a JSON file and removes its checksum."""
        path = self.root / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps({key: v for key, v in content.items() if key not in ("sealed", "checksum")}))

    def flip(self, name: str, place: float = 0.5) -> None:
        """Flips one bit of a file, at a fraction of its length."""
        data = bytearray((self.root / name).read_bytes())
        data[int(place * len(data))] ^= 1
        (self.root / name).write_bytes(data)

    def cut(self, name: str, share: float = 0.5) -> None:
        """Truncates a file to a fraction of its length."""
        data = (self.root / name).read_bytes()
        (self.root / name).write_bytes(data[: int(share * len(data))])


def noise_image(seed: int = 0, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Smooth noise, uint8 (h, w, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def encode(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    """The content of an image file."""
    return cv2.imencode(suffix, image)[1].tobytes()


def make_workspace(root: Path) -> Workspace:
    """Writes the valid input."""
    import mindspore as ms

    from msdet.checkpoints.state import CheckpointFolder, Snapshot
    from msdet.checkpoints.weights_file import save_weights, tensors_of
    from msdet.config import load_config
    from msdet.export.sidecar import write_sidecar
    from msdet.export.spec import ExportSpec
    from msdet.models.recipe import get_recipe

    workspace = Workspace(root)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60} for i in range(4)]
    boxes = [{"id": i + 1, "image_id": i, "category_id": 3 + i % 2, "bbox": [10, 8, 20, 24], "iscrowd": 0}
             for i in range(4)]  # fmt: skip
    categories = [{"id": 3, "name": "red"}, {"id": 4, "name": "blue"}]
    content = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    for split in ("train", "val"):
        workspace.write(f"data/annotations/{split}.json", content)
        for i in range(4):
            workspace.write(f"data/{split}/{i}.jpg", encode(noise_image(i)))
    ms.set_seed(1)
    cfg = load_config("configs/yolov3.yaml", [*TINY, "--num_classes=2", "--class_names=red,blue"])
    recipe = get_recipe(cfg)
    tensors = tensors_of(recipe.build_network())
    card = recipe.card([3, 4])
    save_weights(root / "w.ckpt", tensors, card)
    for step in (4, 8):
        progress = {"epoch": step // 4, "step": step, "step_in_epoch": 0, "best_score": None, "group_size": 1}
        snapshot = Snapshot(tensors, {}, {"velocity.x": np.zeros(3, np.float32)}, progress, cfg.to_dict(), "data")
        CheckpointFolder(root / "out" / "old" / "ckpt_0", "yolov3", 5).save(snapshot, card)
    form = ExportSpec((64, 64), 1, preprocess=True, detect=True).to_dict()
    for name in ("net.onnx", "net.mindir"):
        workspace.write(name, b"no network at all " * 50)
        write_sidecar(root / name, {"form": form, "config": card})
    return workspace


def copy_workspace(good: Workspace, root: Path) -> Workspace:
    """A copy of the valid input for one case."""
    shutil.copytree(good.root, root, dirs_exist_ok=True, symlinks=True)
    return Workspace(root)


def files_in(root: Path) -> set[str]:
    """Names of all files in a folder, except those that a failed run may leave."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
    return {name for name in found if Path(name).name not in _ALLOWED and "tfevents" not in name}


def run_case(case: Case, good: Workspace, root: Path, capsys: object) -> None:
    """Runs a case in this process and checks exit code, message, and that no file was left."""
    workspace = copy_workspace(good, root)
    if case.modify is not None:
        case.modify(workspace)
    before = files_in(root)
    # Handlers of an earlier case write to a closed stream.
    logging.getLogger().handlers.clear()
    main = importlib.import_module(COMMANDS[case.command][0]).main
    capsys.readouterr()
    code = run_command(main, case.argv(root))
    captured = capsys.readouterr()
    message = captured.err + captured.out if case.code == 0 else captured.err
    assert code == case.code, message
    assert "Traceback" not in captured.err + captured.out, message
    for fragment in case.fragments:
        assert fragment in message, message
    assert files_in(root) - before == set(), f"files appeared: {files_in(root) - before}"
    assert not any(Path(name).exists() for name in TRACES_OF_EXECUTION), "a command was run"
