"""A folder in which the commands of the documentation run: small datasets, narrow networks, and files of the names that
the pages use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import mindspore as ms
import numpy as np
import yaml
from mindspore import Tensor

from msdet.checkpoints.weights_file import save_weights, tensors_of
from msdet.config import load_config
from msdet.config.model_table import config_class
from msdet.data.synthetic.shapes import SHAPE_NAMES, render_shapes
from msdet.models.recipe import Recipe, get_recipe

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("train.py", "eval.py", "test.py", "predict.py", "export.py", "postprocess.py", "mindspore_hub_conf.py")
# Of every recipe: what makes a run short.
SHORT = {
    "num_classes": 0, "class_names": "", "per_batch_size": 2, "num_parallel_workers": 0, "progress": "off",
    "warmup_epochs": 0, "max_epoch": 1, "device_target": "CPU", "log_interval": 1,
}  # fmt: skip
RESNET101 = {"backbone_shape": (8, 8, 8, 8, 8), "backbone_layers": (1, 1, 2, 1)}
# Checkpoint -> recipe.
CHECKPOINTS = {
    "yolov3": "yolov3", "yolov4": "yolov4", "efficientdet_d0": "efficientdet_d0",
    "refinedet_vgg16_320": "refinedet_vgg16_320", "darknet53": "darknet53_imagenet",
    "cspdarknet53": "cspdarknet53_imagenet",
}  # fmt: skip
# Backbone -> recipe of a network that holds it.
BACKBONES = {
    "darknet53_backbone": "yolov3", "cspdarknet53_backbone": "yolov4", "efficientnet_b0": "efficientdet_d0",
    "vgg16": "refinedet_vgg16_320", "resnet101": "refinedet_resnet101_320",
}  # fmt: skip


class Sandbox:
    """Runs code as a reader would, in an empty folder with the files that the pages name.

    Args:
        folder: created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._write_programs()
        self._write_recipes()
        self._write_data()

    def copy(self, folder: Path) -> Sandbox:
        """Another sandbox with the same files."""
        shutil.copytree(self.folder, folder, symlinks=True)
        other = object.__new__(Sandbox)
        other.folder = folder
        other._write_programs()
        return other

    def run(self, language: str, code: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs a block of a page; its exit code is that of the first command that fails."""
        code = code.replace("/data/", f"{self.folder}/data/")
        command = ["bash", "-e", "-c", code] if language == "bash" else [sys.executable, "-c", code]
        path = os.pathsep.join((str(self.folder / "bin"), os.environ["PATH"]))
        return subprocess.run(
            command, cwd=self.folder, env={**os.environ, "PATH": path, "PYTHON": sys.executable},
            capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _write_programs(self) -> None:
        programs = self.folder / "bin"
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir()
        for name, words in {"python": "", "msdet": "-m msdet"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            (programs / name).chmod(0o755)
        activate = self.folder / ".venv" / "bin" / "activate"
        activate.parent.mkdir(parents=True, exist_ok=True)
        activate.touch()
        for name in (*SCRIPTS, "scripts", "src"):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / name).symlink_to(ROOT / name)

    def _write_recipes(self) -> None:
        folder = self.folder / "configs"
        folder.mkdir()
        for path in sorted((ROOT / "configs").glob("*.yaml")):
            cfg = load_config(str(path))
            model = config_class(cfg.model)
            values = {"base": str(path), **SHORT, **model.NARROW}
            values["training_shape"] = values["testing_shape"]
            if "resnet101" in path.stem:
                values |= RESNET101
            if "label_map" in cfg.to_dict() and cfg.label_map != "dense":
                values["label_map"] = "dense"
            plain = {name: ",".join(map(str, v)) if isinstance(v, tuple) else v for name, v in values.items()}
            (folder / path.name).write_text(yaml.safe_dump(plain, sort_keys=False))

    def _write_data(self) -> None:
        data = self.folder / "data"
        mine = render_shapes(data / "mine", train=12, val=3, size=96)
        for name in ("coco2017", "coco2014"):
            shutil.copytree(mine, data / name)
        truth = json.loads((mine / "annotations" / "val.json").read_text())
        found = [
            {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": box["bbox"], "score": 0.9}
            for box in truth["annotations"]
        ]
        (self.folder / "detections.json").write_text(json.dumps(found))
        shutil.copytree(mine / "val", self.folder / "photos")
        frames = [cv2.imread(str(path)) for path in sorted((mine / "val").iterdir())]
        video = cv2.VideoWriter(
            str(self.folder / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, frames[0].shape[1::-1]
        )
        for frame in frames:
            video.write(frame)
        video.release()
        _write_voc(mine, data / "VOCdevkit" / "VOC2007")
        _write_yolo(mine, data / "yolo_data")
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            for name in ("cat", "dog"):
                (data / "imagenet" / split / name).mkdir(parents=True)
                for i in range(3):
                    picture = rng.integers(0, 255, (96, 96, 3)).astype(np.uint8)
                    cv2.imwrite(str(data / "imagenet" / split / name / f"{i}.jpg"), picture)

    def add_weights(self) -> None:
        """Checkpoints with their cards, and backbones, all of random weights."""
        for name, config in CHECKPOINTS.items():
            recipe = self._recipe(config)
            save_weights(self.folder / f"{name}.ckpt", _weights(recipe), recipe.card(_ids(recipe)))
        for name, config in BACKBONES.items():
            weights = _weights(self._recipe(config))
            backbone = {key: value for key, value in weights.items() if key.startswith("backbone.")}
            save_weights(self.folder / f"{name}.ckpt", backbone, {})

    def _recipe(self, config: str) -> Recipe:
        path = str(self.folder / "configs" / f"{config}.yaml")
        names = ["cat", "dog"] if "imagenet" in config else list(SHAPE_NAMES)
        cfg = load_config(path, [f"--class_names={','.join(names)}"]).replace(num_classes=len(names))
        return get_recipe(cfg)


def _boxes(mine: Path, split: str) -> Iterator[tuple[dict[str, Any], list[tuple[str, list[float]]]]]:
    """Each image of a COCO dataset with its (class, [left, top, width, height])."""
    content = json.loads((mine / "annotations" / f"{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"]:
        own = [box for box in content["annotations"] if box["image_id"] == image["id"]]
        yield image, [(names[box["category_id"]], box["bbox"]) for box in own]


def _write_voc(mine: Path, folder: Path) -> None:
    """The images as a year of a VOCdevkit, the shapes under names of VOC's classes."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    names = dict(zip(SHAPE_NAMES, ("cat", "dog", "car", "bus", "bird", "boat", "cow"), strict=True))
    for split, lists in {"train": ("trainval", "train"), "val": ("test", "val")}.items():
        stems = []
        for image, boxes in _boxes(mine, split):
            stems.append(f"{split}_{Path(image['file_name']).stem}")
            pixels = cv2.imread(str(mine / split / image["file_name"]))
            cv2.imwrite(str(folder / "JPEGImages" / f"{stems[-1]}.jpg"), pixels)
            objects = "".join(
                f"<object><name>{names[name]}</name><bndbox><xmin>{x + 1:.0f}</xmin><ymin>{y + 1:.0f}</ymin>"
                f"<xmax>{x + w:.0f}</xmax><ymax>{y + h:.0f}</ymax></bndbox></object>"
                for name, (x, y, w, h) in boxes
            )
            size = f"<size><width>{image['width']}</width><height>{image['height']}</height><depth>3</depth></size>"
            text = f"<annotation><filename>{stems[-1]}.jpg</filename>{size}{objects}</annotation>"
            (folder / "Annotations" / f"{stems[-1]}.xml").write_text(text)
        for name in lists:
            (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")


def _write_yolo(mine: Path, folder: Path) -> None:
    """The images as ultralytics lays them out."""
    for split in ("train", "val"):
        (folder / "labels" / split).mkdir(parents=True)
        shutil.copytree(mine / split, folder / "images" / split)
        for image, boxes in _boxes(mine, split):
            width, height = image["width"], image["height"]
            lines = [
                f"{SHAPE_NAMES.index(name)} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}"
                for name, (x, y, w, h) in boxes
            ]
            (folder / "labels" / split / f"{Path(image['file_name']).stem}.txt").write_text("\n".join(lines) + "\n")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(SHAPE_NAMES))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}")


def _ids(recipe: Recipe) -> list[int]:
    return list(range(1, recipe.cfg.num_classes + 1)) if recipe.task == "detect" else []


def _weights(recipe: Recipe) -> dict[str, np.ndarray]:
    """Random weights whose outputs depend on the image behind all the layers."""
    ms.set_seed(5)
    network = recipe.build_network()
    rng = np.random.default_rng(0)
    for p in network.get_parameters():
        if p.name.endswith(".weight") and p.ndim == 4 and "predict" not in p.name:
            gain = np.sqrt(2 / np.prod(p.shape[1:]))
            p.set_data(Tensor((rng.standard_normal(p.shape) * gain).astype(np.float32)))
    return tensors_of(network)
