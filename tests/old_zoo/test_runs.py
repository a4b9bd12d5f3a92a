"""The command lines of the old pages, typed one after another in an empty folder: narrow networks, a few images."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from msdet.data.synthetic.shapes import render_shapes
from tests.old_zoo.commands import LINES, here

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
YOLO = "--backbone_shape=4,4,8,8,8,16 --backbone_layers=1,1,1,1,1"
# What makes a line small: of all models, and of each.
COMMON = "--device_target=CPU --num_parallel_workers=0 --progress=off"
SMALL = {
    "yolov3_quant": f"{YOLO} --num_classes=0 --testing_shape=64",
    "yolov4": f"{YOLO} --num_classes=0 --testing_shape=64",
    "efficientdet_d0": (
        "--backbone_shape=8,8,8,8,16,16,16,16 --backbone_layers=1,1,1,1,1,1,1 --pyramid_channels=8 --pyramid_repeats=1 "
        "--head_repeats=1 --num_classes=0 --label_map=dense --testing_shape=128"
    ),
    "refinedet": (
        "--backbone_shape=8,8,8,16,16,16 --backbone_layers=1,1,1,1,1 --pyramid_channels=8 --num_classes=0 "
        "--testing_shape=64"
    ),
    "darknet53": f"{YOLO} --num_classes=0 --testing_shape=64",
}
TRAINED = {
    "yolov3_quant": "--training_shape=64", "yolov4": "--training_shape=64", "efficientdet_d0": "--training_shape=128",
    "refinedet": "--training_shape=64 --neg_pos_ratio=3", "darknet53": "--training_shape=64",
}  # fmt: skip
ONE_EPOCH = "--max_epoch=1 --per_batch_size=2 --warmup_epochs=0 --run_eval=0"


class Typist:
    """Types lines in a folder.

    Args:
        folder: where.
        page: of the lines.
        family: a key of `SMALL`.
    """

    def __init__(self, folder, page, family):
        self.folder, self.page, self.family = folder, page, family

    def type(self, beginning, *flags, words=()):
        """Types the first line of the page that begins so, made small, with some of its words replaced."""
        line = next(line for line in LINES if line.page == self.page and line.theirs.startswith(beginning))
        typed = shlex.split(here(line))
        for old, new in words:
            assert any(old in word for word in typed), (old, typed)
            typed = [word.replace(old, new) for word in typed]
        typed[1] = str(ROOT / typed[1])
        if typed[0] == "python":
            typed[0] = sys.executable
        typed = [word.replace("=configs/", f"={ROOT}/configs/") for word in typed]
        own = COMMON if "export" not in typed[1] else "--device_target=CPU"
        small = f"{own} {SMALL[self.family]} {' '.join(map(str, flags))}".split()
        done = subprocess.run([*typed, *small], cwd=self.folder, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, (typed, done.stdout[-2000:], done.stderr[-3000:])
        assert "[WARNING]" not in done.stdout + done.stderr, "MindSpore's own warnings say nothing to a user"
        return done.stdout


def newest(folder, pattern):
    found = [path for path in folder.glob(pattern) if ".state." not in path.name]
    return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return render_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=2, size=64)


def test_yolov4(tmp_path, shapes):
    """From a backbone to the score of the exported file."""
    shutil.copytree(shapes, tmp_path / "dataset" / "xxx")
    page = Typist(tmp_path, "yolov4.md", "yolov4")
    train = f"{ONE_EPOCH} {TRAINED['yolov4']}"
    page.type("python train.py", train, "--pretrained_backbone=", words=[("=cspdarknet53_backbone.ckpt", "=")])
    backbone = newest(tmp_path, "outputs/*/ckpt_0/*.ckpt")
    shutil.copy(backbone, tmp_path / "cspdarknet53_backbone.ckpt")
    shutil.copy(backbone.with_suffix(".json"), tmp_path / "cspdarknet53_backbone.json")
    page.type("bash run_standalone_train.sh", train)
    weights = newest(tmp_path, "train/outputs/*/ckpt_0/*.ckpt")
    assert "Average Precision" in page.type("python eval.py", words=[("yolov4.ckpt", str(weights))])
    page.type("bash run_eval.sh", words=[("checkpoint/xxx.ckpt", str(weights))])
    assert "Average Precision" in (tmp_path / "eval" / "log.txt").read_text()
    shutil.copytree(tmp_path / "dataset" / "xxx" / "val", tmp_path / "dataset" / "coco2017" / "test2017")
    page.type("python export.py", words=[("w.ckpt", str(weights))])
    words = [("w.mindir", "out.mindir"), ("val2017", "dataset/xxx/val"), ("a.json", "dataset/xxx/annotations/val.json")]
    page.type("bash run_infer_310.sh", words=words)
    assert "Average Precision" in (tmp_path / "acc.log").read_text()


def test_yolov3_quant(tmp_path, shapes):
    shutil.copytree(shapes, tmp_path / "dataset" / "coco2014")
    page = Typist(tmp_path, "yolov3_darknet53_quant.md", "yolov3_quant")
    flags = f"{COMMON} {SMALL['yolov3_quant']} {ONE_EPOCH} --training_shape=64 --data_dir={shapes} --ckpt_path=float"
    float_network = [sys.executable, str(ROOT / "train.py"), f"--config={ROOT}/configs/yolov3.yaml", *flags.split()]
    subprocess.run(float_network, cwd=tmp_path, check=True, capture_output=True, timeout=900)
    weights = newest(tmp_path, "float/*/ckpt_0/*.ckpt")
    for suffix in (".ckpt", ".json"):
        shutil.copy(weights.with_suffix(suffix), tmp_path / f"yolov3_darknet53_noquant{suffix}")
    train = f"{ONE_EPOCH} {TRAINED['yolov3_quant']}"
    page.type("python train.py", train)
    page.type("sh run_standalone_train.sh", train)
    trained = newest(tmp_path, "train/outputs/*/ckpt_0/*.ckpt")
    assert "Average Precision" in page.type("python eval.py", words=[("yolov3_quent.ckpt", str(trained))])
    page.type("sh run_eval.sh", words=[("checkpoint/yolov3_quant.ckpt", str(trained))])


def test_efficientdet(tmp_path, shapes):
    page = Typist(tmp_path, "efficientdet_d0.md", "efficientdet_d0")
    page.type("bash run_standalone_train.sh [DEVICE_ID]", ONE_EPOCH, TRAINED["efficientdet_d0"], f"--data_dir={shapes}")
    trained = newest(tmp_path, "train/outputs/*/ckpt_0/*.ckpt")
    page.type("bash run_eval.sh", f"--data_dir={shapes}", words=[("w.ckpt", str(trained))])
    page.type("python export.py", words=[("w.ckpt", str(trained))])


def test_refinedet(tmp_path, shapes):
    page = Typist(tmp_path, "refinedet.md", "refinedet")
    train = f"{ONE_EPOCH} {TRAINED['refinedet']} --data_dir={shapes}"
    page.type("bash run_standardalone_train.sh 0", train, "--lr=0.001")
    page.type("python train.py --device_id", train, words=[("=500", "=1")])
    trained = newest(tmp_path, "LOG0/outputs/*/ckpt_0/*.ckpt")
    page.type("bash run_eval.sh coco", f"--data_dir={shapes}", words=[("./ckpt/refinedet.ckpt", str(trained))])
    page.type("python eval.py", f"--data_dir={shapes}", words=[("./ckpt/refinedet.ckpt", str(trained))])
    page.type("python export.py", words=[("w.ckpt", str(trained))])
    page.type("bash run_infer_310.sh", words=[("w.mindir", "out.mindir"), ("val2017", str(shapes))])


def test_darknet53(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for i in range(4):
                image = rng.integers(0, 255, (80, 90, 3)).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "imagenet" / split / name / f"{i}.jpg"), image)
    page = Typist(tmp_path, "darknet53.md", "darknet53")
    page.type("bash run_standalone_train_gpu.sh", ONE_EPOCH, TRAINED["darknet53"])
    trained = newest(tmp_path, "train/outputs/*/ckpt_0/*.ckpt")
    page.type("bash run_eval_gpu.sh", words=[("w.ckpt", str(trained))])
    page.type("python export.py", words=[("w.ckpt", str(trained))])


def test_two_processes_from_a_rank_table(tmp_path, shapes):
    """The main command of the old zoo, on a CPU."""
    devices = ",".join(f'{{"device_id": "{i}", "device_ip": "192.168.1.{i}", "rank_id": "{i}"}}' for i in range(2))
    server = f'{{"server_id": "a", "device": [{devices}]}}'
    table = f'{{"version": "1.0", "server_count": "1", "server_list": [{server}], "status": "completed"}}'
    (tmp_path / "hccl_2p.json").write_text(table)
    shutil.copytree(shapes, tmp_path / "dataset" / "xxx")
    page = Typist(tmp_path, "yolov4.md", "yolov4")
    words = [("cspdarknet53_backbone.ckpt", ""), ("rank_table_8p.json", "hccl_2p.json")]
    page.type("bash run_distribute_train.sh", ONE_EPOCH.replace("=2 ", "=1 "), TRAINED["yolov4"], words=words)
    for rank in range(2):
        assert "loss" in (tmp_path / f"train_parallel{rank}" / "log.txt").read_text()
    assert newest(tmp_path, "train_parallel0/outputs/*/ckpt_0/*.ckpt").is_file()
