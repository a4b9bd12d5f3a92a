"""Worker processes: failures end with an error, and no process or descriptor leaks."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.augment import Resize
from msdet.data.transforms.pipeline import Pipeline, plain_pipeline
from msdet.errors import UserError
from tests.data.loading.batches import assert_equal_batches, copies, no_workers_running

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class FaultyTransform:
    """A transform that misbehaves on images of a certain width."""

    width: int
    fault: str

    def __call__(self, image, boxes, labels, rng):
        if image.shape[1] == self.width:
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "exit":
                os._exit(7)
            if self.fault == "sleep":
                time.sleep(600)
            if self.fault == "fail":
                raise ZeroDivisionError("a bug")
            if self.fault == "complain":
                raise UserError("the data is invalid")
        return image, boxes, labels


def loader_with_fault(dataset, fault, **options):
    width = dataset.samples[9].width
    assert [sample.width for sample in dataset.samples].count(width) == 1
    pipeline = Pipeline(Resize(), before=(FaultyTransform(width, fault),))
    return detection_loader(dataset, pipeline, 4, [(32, 32)], training=False, **options)


def test_errors_of_workers_keep_their_type(dataset):
    with (
        loader_with_fault(dataset, "complain", num_workers=1) as loader,
        pytest.raises(UserError, match="^the data is invalid$"),
    ):
        copies(loader.epoch(0))
    with (
        loader_with_fault(dataset, "fail", num_workers=1) as loader,
        pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError: a bug"),
    ):
        copies(loader.epoch(0))


@pytest.mark.parametrize(("fault", "exit_code"), [("die", "exit code -9, SIGKILL"), ("exit", "exit code 7")])
def test_dead_worker_is_detected_at_once(dataset, fault, exit_code):
    with loader_with_fault(dataset, fault, num_workers=2) as loader:
        begin = time.monotonic()
        with pytest.raises(UserError, match=f"a data worker died \\({exit_code}\\).*batch 2 of epoch 0.*jpg"):
            copies(loader.epoch(0))
        assert time.monotonic() - begin < 60
        assert no_workers_running()


def test_dead_idle_worker_is_detected_and_replaced(dataset):
    with detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=False, num_workers=1) as loader:
        first = copies(loader.epoch(0))
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(UserError, match="a data worker died"):
            copies(loader.epoch(0))
        assert_equal_batches(copies(loader.epoch(0)), first)


def test_hanging_worker_is_an_error_that_names_the_images(dataset):
    loader = loader_with_fault(dataset, "sleep", num_workers=1, stall_timeout=2.0)
    begin = time.monotonic()
    with loader, pytest.raises(UserError, match=r"returned nothing for 2 s; pending: batch 2 of epoch 0.*109\.jpg"):
        copies(loader.epoch(0))
    assert time.monotonic() - begin < 60


# A shell makes background processes ignore Ctrl-C, which is inherited.
SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from msdet.data.formats.coco.read import read_coco
from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.pipeline import plain_pipeline
print("script", flush=True)
dataset = read_coco(sys.argv[1], sys.argv[2])
with detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=False, num_workers=2) as loader:
    for epoch in range(10**6):
        for batch in loader.epoch(epoch):
            if epoch == 0 and batch.number == 0:
                import multiprocessing
                print("pids", *(child.pid for child in multiprocessing.active_children()), flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_main_process(many, tmp_path, how):
    # The script has no `if __name__` guard: workers must not import it.
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(many.ann_file), str(many.image_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))},
        start_new_session=True,
    )
    assert process.stdout.readline() == "script\n"
    pids = [int(word) for word in process.stdout.readline().split()[1:]]
    assert len(pids) == 2
    # Like Ctrl-C, to the whole process group; twice if needed: Python loses one that arrives in a finalizer.
    for _ in range(3 if how == signal.SIGINT else 1):
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            break
    rest, errors = process.communicate(timeout=20)
    assert "script" not in rest
    if how == signal.SIGINT:
        assert "KeyboardInterrupt" in errors
        assert "data worker" not in errors
        assert errors.count("Traceback") == 1
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_workers_import_only_what_they_need():
    code = "import sys, msdet.data.loading.workers; print(sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    modules = done.stdout
    assert "'cv2'" in modules
    for heavy in ("mindspore", "msgspec", "matplotlib", "scipy", "pycocotools", "numba", "yaml"):
        assert f"'{heavy}'" not in modules
