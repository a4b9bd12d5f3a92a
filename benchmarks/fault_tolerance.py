"""Kills a training repeatedly, damages its files, fills its disk, and compares the result with an
uninterrupted run.

    python benchmarks/fault_tolerance.py                  # everything; about ten minutes on two idle cores
    python benchmarks/fault_tolerance.py --only flips     # one of: kills, evaluation, jobs, batch, flips, disk

`kills`: SIGKILL at seeded times of a training: during start-up, between steps, and while it writes a
checkpoint. After each it resumes with `--resume auto`. Then a data worker is paused for ten seconds, one is killed, an
image is deleted, and SIGTERM and SIGINT are sent. The final weights, averages and optimizer state must equal those of
the uninterrupted run bit for bit. `evaluation`: SIGKILL during the first evaluation; the epoch is saved, and the
evaluation is repeated. `jobs`: two trainings in one folder, named and unnamed; two launchers in one folder. `batch`:
resumes with another batch size in the middle of an epoch; the learning rates follow the epochs. `flips`: one byte in a
checkpoint file, 200 times. `disk`: a tmpfs of a few checkpoints, mounted in a user namespace (no privileges are
needed), or a limit on file sizes where that is not allowed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import cv2  # noqa: E402 (the root of the project has to be found first)
import numpy as np  # noqa: E402
import psutil  # noqa: E402

EPOCHS, STEPS = 40, 6  # steps of an epoch
_STEP = re.compile(r"iter\[(\d+)\]")
_PAUSE = 10.0
CONFIG = "configs/yolov3_shapes.yaml"
FLAGS = [
    "--training_shape", "64", "--backbone_shape", "4,8,8,16,16,16",
    "--backbone_layers", "1,1,1,1,1", "--per_batch_size", "4", "--num_parallel_workers", "1", "--warmup_epochs", "0",
    "--progress", "off", "--log_interval", "1", "--lr", "0.02", "--ema_decay", "0.9", "--num_classes", "0",
    "--max_epoch", str(EPOCHS), "--t_max", str(EPOCHS), "--run_eval", "0", "--keep_checkpoint_max", "5",
]  # fmt: skip
# Consecutive log messages of a starting process: a kill during start-up follows one of them.
_STARTS = ("detected the annotation format", "resumed from", "compiling the training graph")


def write_data(folder: Path) -> None:
    """Images with coloured rectangles, as many as an epoch needs."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "train").mkdir(parents=True)
    for i in range(4 * STEPS):
        image = rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)
        for label in range(i % 3):
            x, y = (int(v) for v in rng.integers(0, 36, 2))
            image[y : y + 20, x : x + 24] = (200, 60, 40) if label else (40, 60, 200)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": label + 1, "bbox": [x, y, 24, 20],
                 "area": 480, "iscrowd": 0}
            )  # fmt: skip
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60})
        cv2.imwrite(str(folder / "train" / f"{i}.jpg"), image)
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    (folder / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "train.json").write_text(json.dumps(content))


class Run:
    """A process of train.py, or of the launcher if `launch_from` is given (its working folder); `step` is
    the last step it has logged."""

    def __init__(
        self,
        work: Path,
        output: Path,
        name: str,
        *flags: str,
        limit: int = 0,
        has_same_graph: bool = True,
        launch_from: Path | None = None,
    ) -> None:
        self.folder = output / name
        self.lines: list[str] = []
        self.step = -1
        self.unfinished = unfinished(self.folder / "ckpt_0")
        # The graph is nearly always the same and is compiled only once. (MindSpore's cache
        # does not notice if a process compiles another one.)
        cache = (
            {"MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": str(work / "graphs")} if has_same_graph else {}
        )
        where = ["--data_dir", str(work / "data"), "--ckpt_path", str(output), *(["--run_name", name] if name else [])]
        start = [sys.executable, "train.py", "--config", CONFIG]
        if launch_from is not None:
            launch_from.mkdir(exist_ok=True)
            start = [
                "bash",
                str(ROOT / "scripts" / "run_standalone_train.sh"),
                Path(CONFIG).stem,
                str(work / "data"),
                "",
            ]
        self.process = subprocess.Popen(
            [*start, *FLAGS, *where, *flags],
            cwd=launch_from or ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **cache, "PYTHON": sys.executable},
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if match := _STEP.search(line):
                self.step = int(match[1])

    def wait_for_text(self, text: str) -> bool:
        """Waits until a line with this text is logged; False if the process ends before."""
        while self.process.poll() is None:
            if any(text in line for line in self.lines):
                return True
            time.sleep(0.001)
        return any(text in line for line in self.lines)

    def wait_for(self, step: int) -> bool:
        """Waits until a step is logged; False if the process ends before."""
        while self.step < step and self.process.poll() is None:
            time.sleep(0.002)
        return self.process.poll() is None

    def wait_for_write(self) -> bool:
        """Waits until a checkpoint file is being written; False if the process ends before."""
        folder = self.folder / "ckpt_0"
        while self.process.poll() is None:
            if folder.is_dir() and any(e.name[0] == "." and e.name not in self.unfinished for e in os.scandir(folder)):
                return True
        return False

    def end(self, number: int | None = None, patience: float = 600) -> int:
        """Sends a signal, waits for the end and returns the exit code."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(patience)
        self._reader.join(10)
        return code

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def worker(self) -> psutil.Process:
        """The data worker process."""
        while True:
            for child in psutil.Process(self.process.pid).children():
                if any("spawn_main" in word for word in child.cmdline()):
                    return child
            time.sleep(0.01)


def check(is_so: bool, what: str, run: Run | None = None) -> None:
    """Exits with a message if a condition is not met."""
    if not is_so:
        sys.exit(f"FAILED: {what}\n" + ("".join(run.lines[-15:]) if run else ""))


def final_state(folder: Path) -> dict[str, np.ndarray]:
    """Weights, averages and optimizer state after the last epoch, by name."""
    from msdet.checkpoints.state import checkpoints_in, load_snapshot

    found = load_snapshot(next(checkpoints_in(folder / "ckpt_0")))
    check(found.progress["step"] == EPOCHS * STEPS, f"{folder} ends at step {found.progress['step']}")
    parts = {"weights": found.weights, "averages": found.averages, "state": found.state}
    return {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def differences(one: Path, other: Path) -> list[str]:
    """Names of the tensors that are not equal bit for bit."""
    mine, theirs = final_state(one), final_state(other)
    check(mine.keys() == theirs.keys(), "the runs have different tensors")
    return [name for name, value in mine.items() if value.tobytes() != theirs[name].tobytes()]


def steps_logged(folder: Path) -> list[list[str]]:
    """The rows of train.csv."""
    with (folder / "summary" / "train.csv").open(newline="") as file:
        return list(csv.reader(file))


def uninterrupted_run(work: Path) -> Path:
    """The uninterrupted run."""
    folder = work / "runs" / "uninterrupted"
    if not list(folder.glob(f"ckpt_0/*-{EPOCHS}_*.state.json")):
        shutil.rmtree(folder, ignore_errors=True)
        run = Run(work, work / "runs", "uninterrupted")
        check(run.end() == 0, "the uninterrupted run", run)
    return folder


def run_kills(work: Path, count: int, seed: int) -> None:
    """SIGKILL at `count` times, then other faults; the final state must equal that of the uninterrupted run."""
    reference = uninterrupted_run(work)
    rng = np.random.default_rng(seed)
    # A sixth hits the start-up, a third a write, the rest the time between steps; each is triggered by the progress of
    # the process, not by time, since the speed depends on the machine.
    kinds = rng.permutation([("start", "write", "write", "step", "step", "step")[i % 6] for i in range(count)])
    targets = np.sort(rng.integers(2, int(0.6 * EPOCHS * STEPS), count))
    inside = 0
    for number, (kind, target) in enumerate(zip(kinds, targets.tolist(), strict=True), 1):
        run = Run(work, work / "runs", "interrupted", "--resume", "auto")
        if kind == "start":
            # A new run does not log that it was resumed.
            run.wait_for_text(_STARTS[int(rng.integers(3)) if checkpoint_steps(run.folder) else 0])
        else:
            run.wait_for(target)
        if kind == "write":
            run.wait_for_write()
            time.sleep(rng.uniform(0, 0.004))
        check(run.end(signal.SIGKILL) == -signal.SIGKILL, "the process ended before it was killed", run)
        was_inside = bool(unfinished(run.folder / "ckpt_0") - run.unfinished)
        inside += was_inside
        print(f"kill {number:2} ({kind}): at step {run.step}{', during a write' if was_inside else ''}",
              flush=True)  # fmt: skip
    print(f"{inside} of {count} kills left an incomplete checkpoint")
    run_faults(work, rng)
    run = Run(work, work / "runs", "interrupted", "--resume", "auto")
    check(run.end() == 0, "the last process", run)
    interrupted = work / "runs" / "interrupted"
    different = differences(reference, interrupted)
    check(not different, f"{len(different)} tensors differ: {different[:3]}")
    check(steps_logged(reference) == steps_logged(interrupted), "train.csv differs")
    left = [path.name for path in (interrupted / "ckpt_0").iterdir() if path.name.startswith(".")]
    check(not left, f"remaining temporary files: {left}")
    equal = f"{len(final_state(reference))} tensors and train.csv equal the uninterrupted run"
    print(f"{count} of {count} kills passed: {equal}")


def checkpoint_steps(run: Path) -> list[int]:
    """Steps of the checkpoints of a run, latest first."""
    from msdet.checkpoints.state import checkpoints_in, load_snapshot

    return [load_snapshot(path).progress["step"] for path in checkpoints_in(run / "ckpt_0")]


def run_evaluation(work: Path) -> None:
    """SIGKILL during the first evaluation, twice; the resumed run scores every epoch once."""
    flags = "--run_eval", "1", "--eval_start_epoch", "1", "--eval_interval", "1", "--max_epoch", "4"
    flags += "--ckpt_interval", "3", "--testing_shape", "64", "--resume", "auto"
    link = work / "data" / "val"
    if not link.exists():
        link.symlink_to("train")
        shutil.copy(work / "data" / "annotations" / "train.json", work / "data" / "annotations" / "val.json")
    run = Run(work, work / "runs", "scored_uninterrupted", *flags, has_same_graph=False)
    check(run.end() == 0, "the uninterrupted run with evaluations", run)
    for text in ("saved", "resumed from"):
        run = Run(work, work / "runs", "scored", *flags, has_same_graph=False)
        run.wait_for_text(text)
        check(run.end(signal.SIGKILL) == -signal.SIGKILL, "the process ended before it was killed", run)
        check("AP:" not in run.text, "the evaluation was over before the process was killed", run)
        check(checkpoint_steps(run.folder) == [STEPS], "the first epoch is lost", run)
    run = Run(work, work / "runs", "scored", *flags, has_same_graph=False)
    check(run.end() == 0, "resuming after a kill during the evaluation", run)
    rows = [(work / "runs" / name / "summary" / "eval.csv").read_text() for name in ("scored_uninterrupted", "scored")]
    check(rows[0] == rows[1], f"eval.csv differs: {rows}", run)
    kept = sorted(path.name for path in (run.folder / "eval").glob("*detections_*"))
    check(len(kept) <= 2, f"detections were kept: {kept}")
    check(checkpoint_steps(run.folder) == [4 * STEPS, 3 * STEPS], "checkpoints of the interval", run)
    print("2 of 2 kills during the first evaluation: no epoch lost, every epoch scored once, the same scores")


def run_two_jobs(work: Path) -> None:
    """A second training of the same name, new and resumed, and two without a name: none affects another."""
    reference = uninterrupted_run(work)
    first = Run(work, work / "runs", "shared")
    first.wait_for(STEPS + 1)
    for flags in ((), ("--resume", "auto")):
        second = Run(work, work / "runs", "shared", *flags)
        check(second.end() in (1, 2) and "is in use by another training" in second.text, "a second job", second)
    check(first.process.poll() is None, "the first job ended before the others were tried: make it longer", first)
    check(first.end() == 0, "the first of two jobs", first)
    different = differences(reference, first.folder)
    check(not different and steps_logged(reference) == steps_logged(first.folder), "the first job was affected", first)
    output = work / "runs" / "unnamed"
    pair = [Run(work, output, "", "--max_epoch", "1") for _ in range(2)]
    check([run.end() for run in pair] == [0, 0], "two jobs without a name", pair[0])
    check(len(list(output.glob("*/ckpt_0/*-1_*.state.json"))) == 2, "two jobs without a name share a folder")
    print("two jobs of one name: the second is refused, the first unaffected; two without: one folder each")
    run_two_launchers(work)


def run_two_launchers(work: Path) -> None:
    """A second launcher in the folder of the first; then a launcher is killed, and its training ends with it."""
    place = work / "launched"
    first = Run(work, work / "runs", "launched", launch_from=place)
    first.wait_for(STEPS + 1)
    second = Run(work, work / "runs", "other", launch_from=place)
    check(second.end() == 1 and "is the log of a running job" in second.text, "a second launcher", second)
    check(not second.folder.exists(), "the second launcher has started a training")
    check(first.process.poll() is None, "the first launcher ended before the other was tried: make it longer", first)
    check(first.end() == 0, "the first of two launchers", first)
    different = differences(work / "runs" / "uninterrupted", first.folder)
    check(not different, f"the first launcher's training was affected: {different[:3]}", first)
    killed = Run(work, work / "runs", "orphan", launch_from=place)
    killed.wait_for(STEPS + 1)
    everything = psutil.Process(killed.process.pid).children(recursive=True)
    launcher = next(
        p for p in [psutil.Process(killed.process.pid), *everything] if {"msdet", "launch"} <= set(p.cmdline())
    )
    launcher.kill()
    _, alive = psutil.wait_procs(everything, timeout=30)
    check(not alive, f"processes outlive their launcher: {[p.cmdline() for p in alive]}", killed)
    print("two launchers in one folder: the second is refused, the first unaffected; killing one ends its processes")


def run_batch_sizes(work: Path) -> None:
    """Stops inside an epoch and resumes with half, then twice the batch size; the learning rates follow the epochs."""
    name, steps = "batches", {4: STEPS, 2: 2 * STEPS, 8: STEPS // 2}
    for stop_at, batch in ((2 * STEPS + 3, 4), (6 * STEPS, 2), (0, 8)):
        run = Run(work, work / "runs", name, "--resume", "auto", "--resume_force", "1",
                  "--per_batch_size", str(batch), has_same_graph=False)  # fmt: skip
        if stop_at:
            run.wait_for(stop_at)
        check(run.end(signal.SIGTERM if stop_at else None) == (143 if stop_at else 0), f"a batch size of {batch}", run)
    rows = steps_logged(work / "runs" / name)
    places = [rows[0].index(column) for column in ("step", "epoch", "lr")]
    logged = [(int(row[places[0]]), int(row[places[1]]), float(row[places[2]])) for row in rows[1:]]
    check([step for step, _, _ in logged] == list(range(1, len(logged) + 1)), "train.csv lacks steps")
    for step, epoch, rate in logged:
        wanted = 0.02 * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
        check(abs(rate - wanted) < 1e-9, f"step {step} of epoch {epoch}: learning rate {rate}, not {wanted}")
    check(logged[-1][1] == EPOCHS - 1, f"the run ends in epoch {logged[-1][1]}")
    check(sum(epoch == EPOCHS - 1 for _, epoch, _ in logged) == steps[8], "steps of the last epoch")
    print(f"another batch size twice: {len(logged)} steps, learning rates follow the {EPOCHS} epochs")


def unfinished(folder: Path) -> set[str]:
    """Temporary files, and states without a manifest."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    states = {name for name in names if name.endswith(".state.ckpt") and not name.startswith(".")}
    return {n for n in names if n[0] == "."} | {n for n in states if f"{n.removesuffix('.ckpt')}.json" not in names}


def run_faults(work: Path, rng: np.random.Generator) -> None:
    """A paused worker, a dead worker, a deleted image, SIGTERM, SIGINT; the run resumes after each."""
    step = int(0.65 * EPOCHS * STEPS)
    image = work / "data" / "train" / "7.jpg"

    run = Run(work, work / "runs", "interrupted", "--resume", "auto")
    run.wait_for(step)
    worker = run.worker()
    worker.suspend()
    time.sleep(_PAUSE)
    worker.resume()
    run.wait_for(run.step + 6)
    check("waiting for data for" in run.text and ".jpg" in run.text, "a stalled disk is not reported", run)
    paused_step = run.step
    run.worker().kill()
    check(run.end() == 1 and "a data worker died (exit code -9, SIGKILL)" in run.text, "a dead worker", run)
    print(
        f"a worker paused for {_PAUSE:g} s: reported, training continued to step {paused_step}; "
        "a killed one: reported, exit code 1"
    )

    content = image.read_bytes()
    run = Run(work, work / "runs", "interrupted", "--resume", "auto")
    run.wait_for(paused_step + 2)
    image.unlink()
    check(run.end() == 1 and "7.jpg is missing" in run.text, "a deleted image", run)
    image.write_bytes(content)
    print(f"an image deleted in step {run.step}: reported, exit code 1")
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = run.step
        run = Run(work, work / "runs", "interrupted", "--resume", "auto")
        run.wait_for(before + 1 + int(rng.integers(0, 3)))
        start = time.monotonic()
        check(run.end(number) == code, f"exit code after {number.name}", run)
        print(
            f"{number.name}: exit code {code} after {time.monotonic() - start:.1f} s, checkpoint at step {run.step + 1}"
        )


def run_flips(work: Path, count: int, seed: int) -> None:
    """Changes one random byte of a random checkpoint file, `count` times; each must be detected."""
    from msdet.checkpoints.state import checkpoints_in, load_snapshot
    from msdet.checkpoints.weights_file import load_weights, save_weights
    from msdet.errors import UserError

    reference = uninterrupted_run(work)
    folder = work / "flips"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(reference / "ckpt_0", folder)
    newest = load_snapshot(next(checkpoints_in(folder)))
    save_weights(folder / "yolov3-best.ckpt", newest.averages, {"model": "yolov3"})
    files = sorted(folder.iterdir())
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(count):
        path = files[rng.integers(len(files))]
        whole = path.read_bytes()
        place = int(rng.integers(len(whole)))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ int(rng.integers(1, 256))]) + whole[place + 1 :])
        try:
            load_weights(folder / "yolov3-best.ckpt") if "best" in path.name else load_snapshot(path)
        except UserError:
            found += 1
        else:
            print(f"not detected: byte {place} of {path.name}")
        path.write_bytes(whole)
    print(
        f"{found} of {count} changed bytes detected, "
        f"in {len(files)} files of {len(files) // 4} checkpoints and the best"
    )
    check(found == count, "a changed byte was not detected")


def run_full_disk(work: Path) -> None:
    """Fills a folder of limited size; the older checkpoints must be valid, and the run must resume from them."""
    uninterrupted_run(work)
    inside = [sys.executable, str(Path(__file__).resolve()), "--folder", str(work), "--only", "inside"]
    unshare = shutil.which("unshare")
    can = unshare and not subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode
    if can:
        check(not subprocess.run([unshare, "-rm", *inside], check=False).returncode, "the disk-full case")
        return
    print("no user namespace available: using a limit on file sizes (RLIMIT_FSIZE) instead of a full disk")
    shutil.rmtree(work / "runs" / "limited", ignore_errors=True)
    run = Run(work, work / "runs", "limited")
    run.wait_for(2 * STEPS + 1)
    run.end(signal.SIGKILL)
    run = Run(work, work / "runs", "limited", "--resume", "auto", limit=100_000)
    _check_full(run, run.end(), "File too large")
    run = Run(work, work / "runs", "limited", "--resume", "auto")
    check(run.end() == 0 and not differences(work / "runs" / "uninterrupted", run.folder), "resuming", run)


def fill_disk(work: Path) -> None:
    """The disk-full case, run in a mount namespace."""
    disk = work / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(disk)], check=True)
    run = Run(work, disk, "full")
    _check_full(run, run.end(), "No space left on device")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    run = Run(work, disk, "full", "--resume", "auto")
    code = run.end()
    check(code == 1 and "Read-only file system" in run.text and "Traceback" not in run.text, "a read-only disk", run)
    print("a read-only folder: reported, exit code 1")
    subprocess.run(["mount", "-o", "remount,rw,size=100m", str(disk)], check=True)
    run = Run(work, disk, "full", "--resume", "auto")
    check(run.end() == 0, "resuming with free space", run)
    different = differences(work / "runs" / "uninterrupted", run.folder)
    check(not different, f"{len(different)} tensors differ after the full disk")
    print("with free space it resumed, and the final tensors equal those of the uninterrupted run")


def _check_full(run: Run, code: int, reason: str) -> None:
    from msdet.checkpoints.state import checkpoints_in, load_snapshot

    check(code == 1 and reason in run.text, f"a full disk: exit code {code}", run)
    check("Traceback" not in run.text, "a full disk ends in a traceback", run)
    manifests = list(checkpoints_in(run.folder / "ckpt_0"))
    check(bool(manifests), "no checkpoint is left")
    for manifest in manifests:
        load_snapshot(manifest)
    message = next(line for line in reversed(run.lines) if reason in line)
    print(f"a full disk at step {run.step}: exit code 1, {len(manifests)} older checkpoints valid: {message.strip()}")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "flips": lambda work, args: run_flips(work, args.flips, args.seed),
    "disk": lambda work, _: run_full_disk(work),
    "evaluation": lambda work, _: run_evaluation(work),
    "jobs": lambda work, _: run_two_jobs(work),
    "batch": lambda work, _: run_batch_sizes(work),
    "kills": lambda work, args: run_kills(work, args.kills, args.seed),
}


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="working folder, kept afterwards; default: a temporary one")
    parser.add_argument("--only", choices=(*PARTS, "inside"), help="run only this part")
    args = parser.parse_args(argv)
    if args.only == "inside":
        fill_disk(args.folder)
        return
    work = args.folder or Path(tempfile.mkdtemp(prefix="fault_tolerance_"))
    if not (work / "data").is_dir():
        write_data(work / "data")
    start = time.monotonic()
    for name, part in PARTS.items():
        if args.only in (None, name):
            part(work, args)
    print(f"all passed in {(time.monotonic() - start) / 60:.1f} min")
    if args.folder is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main(sys.argv[1:])
