"""Several real processes on the CPU, started by the scripts, train and score like one process."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from msdet.checkpoints.weights_file import load_tensors
from msdet.data.synthetic.shapes import render_shapes
from msdet.tools.launcher.plan import free_port

ROOT = Path(__file__).resolve().parents[1]
# fp32, no weight decay, no clipping: the velocity after the first step is the gradient.
EXACT = [
    "--device_target", "CPU", "--num_parallel_workers", "0",
    "--warmup_epochs", "0", "--progress", "off", "--log_interval", "1", "--ckpt_interval", "1",
    "--keep_checkpoint_max", "10", "--weight_decay", "0", "--clip_grad_norm", "0", "--ema_decay", "0",
    "--freeze_bn", "1", "--lr", "0.0005", "--num_classes", "0", "--run_name", "r",
]  # fmt: skip
NARROW = {
    "yolov3_shapes": [
        "--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1", "--training_shape", "64",
        "--testing_shape", "64",
    ],
    "yolov4": ["--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1"],
    "efficientdet_d0": [
        "--backbone_shape", "8,4,4,8,8,8,8,16", "--backbone_layers", "1,1,1,1,1,1,1", "--pyramid_channels", "8",
        "--pyramid_repeats", "1", "--head_repeats", "1", "--label_map", "dense", "--jitter_scale", "0.7,1.5",
    ],
    "refinedet_vgg16_320": [
        "--backbone_shape", "8,8,8,8,8,16", "--backbone_layers", "1,1,1,1,1", "--pyramid_channels", "8",
    ],
    "darknet53": ["--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1"],
    "cspdarknet53": [
        "--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1", "--weight_init", "xavier",
    ],
}  # fmt: skip


def script(name: str, *arguments: object, cwd: Path) -> subprocess.Popen:
    """Starts one of the scripts in a folder."""
    cwd.mkdir(exist_ok=True)
    with (cwd / "out.txt").open("w") as out:
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts" / f"{name}.sh"), *map(str, arguments)],
            cwd=cwd, env={**os.environ, "PYTHON": sys.executable}, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def finish(process: subprocess.Popen, cwd: Path, code: int = 0) -> str:
    """Waits for the end of a script; returns what it printed."""
    process.wait(timeout=1500)
    text = (cwd / "out.txt").read_text()
    assert process.returncode == code, text
    return text


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "data"
    render_shapes(folder, train=8, val=7, size=64)
    return folder


@pytest.fixture(scope="module")
def image_folders(tmp_path_factory):
    """As classifiers want them: eight to train on and seven to score, in a folder a class.

    Most are of one class: else the gradients of the two cancel in an untrained network, and rounding is what is left.
    """
    folder = tmp_path_factory.mktemp("images") / "data"
    rng = np.random.default_rng(0)
    for split, counts in (("train", (6, 2)), ("val", (3, 4))):
        for name, count in zip("ab", counts, strict=True):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / split / name / f"{i}.png"), rng.integers(0, 255, (80, 90, 3)).astype(np.uint8))
    return folder


def arguments_of(model: str, request: pytest.FixtureRequest, devices: int) -> list[object]:
    """The positional arguments of a training with the given number of processes."""
    several = ["--device_num", devices] if devices > 1 else []
    if model.endswith("darknet53"):
        return [model, "imagenet2012", request.getfixturevalue("image_folders"), *several]
    dataset = request.getfixturevalue("dataset")
    if model == "efficientdet_d0":
        return [model, "--data_dir", dataset, *several]
    if model.startswith("refinedet"):
        return [model, devices if devices > 1 else 0, 5, 0.0005, "coco", "--data_dir", dataset]
    return [model, dataset, "", *several]


def run_pair(folder: Path, request: pytest.FixtureRequest, model: str, *flags: str) -> tuple[Path, Path]:
    """Five epochs of one step of eight images, with one process and with two; returns the folders of both runs."""
    size = "128" if model == "efficientdet_d0" else "64"
    flags = (*EXACT, "--training_shape", size, "--testing_shape", size, *NARROW[model], "--max_epoch", "5", *flags)
    one = script(
        "run_standalone_train", *arguments_of(model, request, 1), "--per_batch_size", 8, *flags, cwd=folder / "one"
    )
    two = script(
        "run_distribute_train", *arguments_of(model, request, 2), "--per_batch_size", 4, *flags, cwd=folder / "two"
    )
    finish(one, folder / "one")
    finish(two, folder / "two")
    logs = ("LOG0", "LOG0") if model.startswith("refinedet") else ("train", "train_parallel0")
    return tuple(folder / run / log / "outputs" / "r" for run, log in zip(("one", "two"), logs, strict=True))


@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    return run_pair(
        tmp_path_factory.mktemp("pair"), request, "yolov3_shapes", "--run_eval", "1", "--eval_start_epoch", "1",
        "--eval_interval", "4", "--is_save_on_master", "0",
    )  # fmt: skip


def rows(run: Path, name: str) -> list[dict[str, float]]:
    with (run / "summary" / name).open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def assert_equal_training(one: Path, two: Path) -> None:
    """The first gradient to 1e-4, five losses to 1e-3."""
    alone, shared = (load_tensors(next((run / "ckpt_0").glob("*-1_1.state.ckpt"))) for run in (one, two))
    assert alone.keys() == shared.keys()
    largest = max(np.abs(value).max() for name, value in alone.items() if name.startswith("velocity."))
    assert largest > 0
    for name, value in alone.items():
        np.testing.assert_allclose(shared[name], value, rtol=1e-4, atol=1e-4 * largest, err_msg=name)
    losses = [[row["loss"] for row in rows(run, "train.csv")] for run in (one, two)]
    assert len(losses[0]) == 5
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_two_processes_train_like_one(pair):
    assert_equal_training(*pair)


def test_distributed_evaluation_scores_like_one_process(pair):
    one, two = (rows(run, "eval.csv") for run in pair)
    assert [row["step"] for row in one] == [row["step"] for row in two] == [1, 5]
    np.testing.assert_allclose([row["AP"] for row in two], [row["AP"] for row in one], atol=1e-6)
    detections = [json.loads((run / "eval" / "detections_1.json").read_text()) for run in pair]
    assert [(d["image_id"], d["category_id"]) for d in detections[1]] == [
        (d["image_id"], d["category_id"]) for d in detections[0]
    ]


def test_logs_and_checkpoints_of_each_rank(pair):
    _, two = pair
    folder = two.parents[2]
    for rank in (0, 1):
        assert "loss is" in (folder / f"train_parallel{rank}" / "log.txt").read_text()
    names = [{path.name for path in (two / f"ckpt_{rank}").glob("*5_5*")} for rank in (0, 1)]
    assert names[0] == names[1] and len(names[0]) == 4
    zero, one = (load_tensors(two / f"ckpt_{rank}" / "yolov3-5_5.ckpt") for rank in (0, 1))
    for name, value in zero.items():
        np.testing.assert_array_equal(one[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(NARROW.keys() - {"yolov3_shapes"}))
def test_every_model_trains_on_two_processes_like_on_one(request, tmp_path, model):
    runs = run_pair(tmp_path, request, model)
    assert_equal_training(*runs)
    if model.endswith("darknet53"):
        # The evaluation is distributed too, seven images on two ranks; the last batch is not dropped.
        scores = [[(row["top_1_accuracy"], row["top_5_accuracy"]) for row in rows(run, "eval.csv")] for run in runs]
        assert len(scores[0]) == 5 and scores[0] == scores[1]


@pytest.mark.slow
def test_killed_rank_is_restarted_and_the_run_resumes(dataset, tmp_path):
    flags = (*EXACT, *NARROW["yolov3_shapes"], "--per_batch_size", 4, "--max_epoch", 60, "--keep_checkpoint_max", 2)
    options = ("--device_num", 2, "--max_restarts", 1, "--need_profiler", 1)
    process = script("run_distribute_train", "yolov3_shapes", dataset, "", *options, *flags, cwd=tmp_path / "w")
    folder = tmp_path / "w" / "train_parallel0"
    deadline = time.monotonic() + 200
    while not list(folder.glob("outputs/r/ckpt_0/*-2_2.state.json")):
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "w" / "out.txt").read_text()
        time.sleep(0.05)
    (status,) = folder.glob("launch/attempt_*/rank_1.json")
    os.kill(json.loads(status.read_text())["pids"][1], signal.SIGKILL)
    text = finish(process, tmp_path / "w")
    assert "rank 1 failed first: it was killed by SIGKILL" in text and "restart 1 of 1" in text
    assert "resumed from" in text and list(folder.glob("outputs/r/ckpt_0/*-60_60.ckpt"))
    # Profile and TensorBoard events are written by rank 0.
    assert "profile of 5 steps" in text and list(folder.glob("outputs/r/summary/*tfevents*"))


@pytest.mark.slow
def test_stopped_job_saves_at_a_common_step_and_resumes(dataset, tmp_path):
    """SIGTERM to the launcher: all ranks end after the same step, with a checkpoint; --resume auto resumes."""
    flags = (*EXACT, *NARROW["yolov3_shapes"], "--per_batch_size", 2, "--is_save_on_master", "0")
    start = ("run_distribute_train", "yolov3_shapes", dataset, "", "--device_num", 2)
    process = script(*start, *flags, "--max_epoch", 1000, cwd=tmp_path / "w")
    folder = tmp_path / "w" / "train_parallel0" / "outputs" / "r"
    deadline = time.monotonic() + 200
    while not list(folder.glob("ckpt_0/*-2_4.state.json")):
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "w" / "out.txt").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    finish(process, tmp_path / "w", 143)
    newest = [max(folder.glob(f"ckpt_{rank}/*.state.json"), key=lambda p: p.stat().st_mtime) for rank in (0, 1)]
    assert newest[0].name == newest[1].name
    step = int(newest[0].name.split("_")[1].split(".")[0])
    assert step < 2000
    epochs = (step + 5) // 2
    process = script(*start, *flags, "--max_epoch", epochs, "--resume", "auto", "--ckpt_path", folder.parent,
                     "--resume_force", "1", cwd=tmp_path / "w")  # fmt: skip
    text = finish(process, tmp_path / "w")
    assert "resumed from" in text and list(folder.glob(f"ckpt_0/*-{epochs}_{2 * epochs}.ckpt"))


@pytest.mark.slow
def test_evaluation_on_two_ranks_writes_the_same_file(pair, dataset, tmp_path):
    """From the same checkpoint, byte by byte."""
    weights = pair[0] / "ckpt_0" / "yolov3-5_5.ckpt"
    common = ("yolov3_shapes", dataset, weights, "--device_target", "CPU", "--testing_shape", 64,
              "--num_parallel_workers", 0, *NARROW["yolov3_shapes"])  # fmt: skip
    one = script("run_eval", *common, cwd=tmp_path / "one")
    two = script("run_eval", *common, "--device_num", 2, "--eval_batch_size", 2, cwd=tmp_path / "two")
    texts = [finish(one, tmp_path / "one"), finish(two, tmp_path / "two")]
    files = [next((tmp_path / name).glob("eval*/eval_*/detections.json")) for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert texts[0].split("eval reulst")[1][:900] == texts[1].split("eval reulst")[1][:900]


COUNTING = """
import sys
sys.path.insert(0, {root!r})
import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.communication import get_rank, init
ms.set_context(mode=ms.GRAPH_MODE)
init()
from msdet.layers.shared_count import SharedCount
from msdet.runtime.start import Runtime
from msdet.errors import UserError
runtime = Runtime("CPU", get_rank(), 2)
rank = runtime.rank
shared = SharedCount()
weight = Tensor(np.float32(2))
data, count = Tensor(np.float32([[1, 2, 3], [10, 0, 0]][rank])), Tensor(np.float32([3, 1][rank]))

def mean(w):
    return ops.reduce_sum(w * data) / shared(count)

loss, gradient = ms.value_and_grad(mean)(weight)
print("loss", runtime.gather_numbers([float(loss), float(gradient)]).mean(0).tolist())
print("none", float(shared(Tensor(np.float32(0)))))
print("bytes", runtime.gather([b"", b"abcde"][rank]), runtime.on_master(lambda: ["x-é", rank]))
def refuse():
    raise UserError("no: x-é")
try:
    runtime.on_master(refuse)
except UserError as error:
    print("refused", error)
print("exact", runtime.gather_numbers([1 / 3 + rank, float("nan")])[:, 0].tolist() == [1 / 3, 1 / 3 + 1])
"""


@pytest.mark.slow
def test_counts_are_summed_and_data_is_gathered_exactly(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING.format(root=str(ROOT)))
    command = [
        str(Path(sys.executable).parent / "msrun"), "--worker_num=2", "--local_worker_num=2", "--join=True",
        f"--master_port={free_port()}", f"--log_dir={tmp_path}", str(tmp_path / "counting.py"),
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL, timeout=200, check=True)
    for rank in (0, 1):
        lines = (tmp_path / f"worker_{rank}.log").read_text().splitlines()
        # All ranks: sum 2 * 16 over 4 counted; the gradient is 16 / 4.
        assert "loss [8.0, 4.0]" in lines and "none 0.5" in lines
        assert "bytes [b'', b'abcde'] ['x-é', 0]" in lines and "refused no: x-é" in lines and "exact True" in lines
