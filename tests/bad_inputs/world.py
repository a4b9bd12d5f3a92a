"""A small world in which everything is right, and cases that spoil one thing in it."""

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
# What each command is called with where nothing is wrong; {root} is the folder of the case.
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
# What the files of strangers would make in the current folder if anybody ran them.
COMMANDS_OF_STRANGERS = ("here", "evil")
# A run may leave its log, configuration and lock, and the heads of tables without a row; nothing else.
_HARMLESS = ("log.txt", "config.yaml", ".lock", "train.csv", "eval.csv")


@dataclass
class Case:
    """Something wrong, and what is said about it.

    Attributes:
        name: what is wrong.
        command: a key of `COMMANDS`.
        flags: added to the command's own; {root} is the folder of the case.
        code: exit code.
        fragments: of the message.
        spoil: makes it wrong, in the folder.
        bare: leave the command's own flags out.
    """

    name: str
    command: str
    flags: tuple[str, ...]
    code: int
    fragments: tuple[str, ...]
    spoil: Callable[[World], None] | None = None
    bare: bool = False

    def argv(self, root: Path) -> list[str]:
        own = () if self.bare else COMMANDS[self.command][1:]
        return [flag.format(root=root) for flag in (*own, *self.flags)]


class World:
    """A folder with a data set, a checkpoint and an exported file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"

    def write(self, name: str, content: str | bytes) -> Path:
        """A file below the folder."""
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
        """Edits a JSON file and takes its seal away, as one who edits by hand would be told to."""
        path = self.root / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps({key: v for key, v in content.items() if key not in ("sealed", "checksum")}))

    def flip(self, name: str, place: float = 0.5) -> None:
        """Changes one bit of a file, at a share of its length."""
        data = bytearray((self.root / name).read_bytes())
        data[int(place * len(data))] ^= 1
        (self.root / name).write_bytes(data)

    def cut(self, name: str, share: float = 0.5) -> None:
        """Leaves the first part of a file."""
        data = (self.root / name).read_bytes()
        (self.root / name).write_bytes(data[: int(share * len(data))])


def picture(seed: int = 0, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Smooth noise, uint8 (h, w, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def encode(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    """An image file."""
    return cv2.imencode(suffix, image)[1].tobytes()


def make_world(root: Path) -> World:
    """Writes the good world, once for all cases."""
    import mindspore as ms

    from msdet.checkpoints.state import CheckpointFolder, Snapshot
    from msdet.checkpoints.weights_file import save_weights, tensors_of
    from msdet.config import load_config
    from msdet.export.sidecar import write_sidecar
    from msdet.export.spec import ExportSpec
    from msdet.models.recipe import get_recipe

    world = World(root)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60} for i in range(4)]
    boxes = [{"id": i + 1, "image_id": i, "category_id": 3 + i % 2, "bbox": [10, 8, 20, 24], "iscrowd": 0}
             for i in range(4)]  # fmt: skip
    categories = [{"id": 3, "name": "red"}, {"id": 4, "name": "blue"}]
    content = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    for split in ("train", "val"):
        world.write(f"data/annotations/{split}.json", content)
        for i in range(4):
            world.write(f"data/{split}/{i}.jpg", encode(picture(i)))
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
        world.write(name, b"no network at all " * 50)
        write_sidecar(root / name, {"form": form, "config": card})
    return world


def copy_world(good: World, root: Path) -> World:
    """A copy for one case."""
    shutil.copytree(good.root, root, dirs_exist_ok=True, symlinks=True)
    return World(root)


def files_in(root: Path) -> set[str]:
    """Names of all files below a folder, but those that any run leaves."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
    return {name for name in found if Path(name).name not in _HARMLESS and "tfevents" not in name}


def run_case(case: Case, good: World, root: Path, capsys: object) -> None:
    """Runs a case in this process and holds it against what it states."""
    world = copy_world(good, root)
    if case.spoil is not None:
        case.spoil(world)
    before = files_in(root)
    # A log of an earlier case writes to a stream that is closed by now.
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
    assert not any(Path(name).exists() for name in COMMANDS_OF_STRANGERS), "a command was run"
