"""Batches: independent of the number of workers, in order, and every failure ends with an error."""

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.data.images.decode import decode_image
from msdet.data.loading.loaders import detection_loader
from msdet.data.transforms.augment import Resize
from msdet.data.transforms.pipeline import Pipeline, jitter_pipeline, plain_pipeline
from msdet.data.transforms.resize import resize_for_eval
from msdet.errors import UsageError, UserError

ROOT = Path(__file__).resolve().parents[3]
SIZES = [(64, 64), (96, 64), (32, 96)]


@dataclass(frozen=True)
class Trouble:
    """A transform that misbehaves on images of a certain width."""

    width: int
    deed: str

    def __call__(self, image, boxes, labels, rng):
        if image.shape[1] == self.width:
            if self.deed == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.deed == "exit":
                os._exit(7)
            if self.deed == "sleep":
                time.sleep(600)
            if self.deed == "fail":
                raise ZeroDivisionError("a fault of the program")
            if self.deed == "complain":
                raise UserError("something of the user's is wrong")
        return image, boxes, labels


@pytest.fixture(scope="module")
def dataset(many):
    return read_coco(many.ann_file, many.image_dir)


def loader_with_fault(dataset, deed, **options):
    width = dataset.samples[9].width
    assert [sample.width for sample in dataset.samples].count(width) == 1
    pipeline = Pipeline(Resize(), before=(Trouble(width, deed),))
    return detection_loader(dataset, pipeline, 4, [(32, 32)], training=False, **options)


def copies(batches):
    """Copies of everything in the batches."""
    return [
        (
            batch.images.copy(),
            batch.boxes,
            batch.labels,
            batch.image_ids,
            batch.geometry,
            batch.size,
            batch.indices,
            batch.epoch,
            batch.number,
        )
        for batch in batches
    ]


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
            else:
                assert a == b


def no_workers_running():
    return not [child for child in multiprocessing.active_children() if child.name == "data worker"]


@pytest.fixture(autouse=True)
def no_leaks():
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    gc.collect()
    assert no_workers_running()
    # The resource tracker of multiprocessing keeps one descriptor open.
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


@pytest.fixture(scope="module")
def reference(dataset):
    options = {"training": True, "seed": 3, "max_boxes": 2, "drop_last": False, "resize_rate": 2}
    with detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=0, **options) as loader:
        return options, {epoch: copies(loader.epoch(epoch)) for epoch in (0, 1)}


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers_or_start(dataset, reference, workers):
    options, epochs = reference
    with detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=workers, **options) as loader:
        assert_equal_batches(copies(loader.epoch(0)), epochs[0])
        assert_equal_batches(copies(loader.epoch(1)), epochs[1])
        assert_equal_batches(copies(loader.epoch(1, start_batch=4)), epochs[1][4:])
        assert_equal_batches(copies(loader.epoch(1, start_batch=6)), [])
        # An abandoned epoch does not affect the next one.
        for _ in range(3):
            next(iter(loader.epoch(0)))
        assert_equal_batches(copies(loader.epoch(1)), epochs[1])


def test_epochs_have_different_orders(reference):
    _, epochs = reference
    shown = {epoch: [i for batch in batches for i in batch[6].tolist()] for epoch, batches in epochs.items()}
    assert shown[0] != shown[1] and set(shown[0]) == set(shown[1])


def test_resuming_in_process(dataset, reference):
    options, epochs = reference
    with detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=0, **options) as loader:
        assert_equal_batches(copies(loader.epoch(1, start_batch=3)), epochs[1][3:])


def test_fields_of_a_batch(dataset, reference):
    _, epochs = reference
    boxes_seen = 0
    for images, boxes, labels, image_ids, geometry, size, indices, _, _ in epochs[0]:
        assert images.shape == (4, *size, 3)
        assert images.dtype == np.uint8
        assert size in SIZES
        assert boxes.shape == (4, labels.shape[1], 4)
        assert labels.shape[1] in (2, 4, 8)
        assert len(image_ids) == len(geometry) == len(indices) == 4
        for index, image_id in zip(indices, image_ids, strict=True):
            assert dataset.samples[index].image_id == image_id
        real = labels >= 0
        boxes_seen += real.sum()
        assert (boxes[~real] == 0).all()
        assert (boxes[real][:, 2:] > boxes[real][:, :2]).all()
    assert boxes_seen > 30
    assert len({epoch[5] for epoch in epochs[0] + epochs[1]}) > 1


def test_size_of_a_batch_is_known_in_advance(dataset, reference):
    options, epochs = reference
    loader = detection_loader(dataset, jitter_pipeline(), 4, SIZES, num_workers=0, **options)
    for epoch, batches in epochs.items():
        assert [loader.size_of(epoch, number) for number in range(6)] == [batch[5] for batch in batches]
    other_rank = detection_loader(
        dataset, jitter_pipeline(), 2, SIZES, **{**options, "rank": 1, "group_size": 2}, num_workers=0
    )
    assert [other_rank.size_of(0, n) for n in range(6)] == [loader.size_of(0, n) for n in range(6)]


def test_evaluation_yields_every_image_once_with_its_geometry(dataset):
    found = []
    for rank in range(3):
        with detection_loader(
            dataset, plain_pipeline("letterbox"), 4, [(64, 48)], training=False, num_workers=1, rank=rank, group_size=3
        ) as loader:
            batches = copies(loader.epoch(0))
            assert len(batches) == loader.steps_per_epoch == 2
            for images, boxes, labels, image_ids, geometry, *_ in batches:
                assert len(images) == len(image_ids)
                found += image_ids
                for position, image_id in enumerate(image_ids):
                    sample = next(sample for sample in dataset.samples if sample.image_id == image_id)
                    real = labels[position] >= 0
                    back = geometry[position].inverse(boxes[position][real])
                    np.testing.assert_allclose(back, sample.boxes, atol=1e-3)
                    assert labels[position][real].tolist() == sample.labels.tolist()
                    want, _ = resize_for_eval(decode_image(sample.image_path), (64, 48), "letterbox")
                    np.testing.assert_array_equal(images[position], want)
    assert sorted(found) == sorted(sample.image_id for sample in dataset.samples)


def test_crowds_are_not_targets(coco):
    coco.add_image(1, boxes=[[1, 1, 9, 9]])
    coco.add_box(1, [20, 20, 9, 9], iscrowd=1)
    coco.add_image(2)
    coco.add_box(2, [20, 20, 9, 9], iscrowd=1)
    dataset = read_coco(*coco.write())
    for training in (True, False):
        with detection_loader(
            dataset, plain_pipeline(), 2, [(32, 32)], training=training, shuffle=False, num_workers=0, max_boxes=3
        ) as loader:
            batch = next(loader.epoch(0))
            assert (batch.labels >= 0).sum(axis=1).tolist() == [1, 0]
            assert batch.boxes.shape == (2, 3, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_cut_boxes_are_counted(dataset, workers):
    total = sum(len(sample.boxes) for sample in dataset.samples)
    with detection_loader(
        dataset, plain_pipeline(), 4, [(64, 64)], training=False, num_workers=workers, max_boxes=2, cut_boxes=True
    ) as loader:
        batches = copies(loader.epoch(0))
        kept = sum((batch[2] >= 0).sum() for batch in batches)
        assert all(batch[1].shape[1] == 2 for batch in batches)
        assert loader.boxes_cut == total - kept > 0
    whole = detection_loader(dataset, plain_pipeline(), 4, [(64, 64)], training=False, num_workers=0, max_boxes=2)
    assert sum((batch.labels >= 0).sum() for batch in whole.epoch(0)) == total
    assert whole.boxes_cut == 0


def test_dropped_and_repeated_images_are_logged(dataset, caplog):
    with caplog.at_level(logging.INFO):
        loader = detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=True, num_workers=0)
    assert "drops 3 of 23 images" in caplog.text
    assert loader.steps_per_epoch == 5
    assert len({image_id for batch in loader.epoch(0) for image_id in batch.image_ids}) == 20
    caplog.clear()
    few = replace(dataset, samples=dataset.samples[:3])
    with caplog.at_level(logging.INFO):
        loader = detection_loader(few, jitter_pipeline(), 8, [(32, 32)], training=True, num_workers=0)
    assert "3 images are fewer than a step needs (8)" in caplog.text
    (batch,) = copies(loader.epoch(0))
    assert set(batch[3]) == {100, 101, 102}
    # A repeated image gets another augmentation.
    first, again = np.flatnonzero(batch[6] == batch[6][0])[:2]
    assert (batch[0][first] != batch[0][again]).any()


def test_batch_is_valid_until_the_next(dataset):
    with detection_loader(dataset, plain_pipeline(), 4, [(64, 64)], training=False, num_workers=2) as loader:
        batches = loader.epoch(0)
        kept = next(batches)
        before = kept.images.copy()
        time.sleep(0.3)
        np.testing.assert_array_equal(kept.images, before)
        batches.close()
    # The memory stays mapped after the end: it may contain another batch, but can be read.
    assert kept.images.sum() > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_image_is_an_error_of_its_batch(coco, workers):
    for number in range(8):
        coco.add_image(number)
    dataset = read_coco(*coco.write())
    bad = coco.image_dir / "5.jpg"
    bad.write_bytes(bad.read_bytes()[:-100])
    with detection_loader(dataset, plain_pipeline(), 2, [(32, 32)], training=False, num_workers=workers) as loader:
        seen = []
        with pytest.raises(UserError, match=r"5\.jpg is truncated.*annotated in .*train\.json"):
            for batch in loader.epoch(0):
                seen += batch.image_ids
        assert seen == [0, 1, 2, 3]
        bad.write_bytes((coco.image_dir / "4.jpg").read_bytes())
        assert len(copies(loader.epoch(0))) == 4


def test_errors_of_workers_keep_their_type(dataset):
    with (
        loader_with_fault(dataset, "complain", num_workers=1) as loader,
        pytest.raises(UserError, match="^something of the user's is wrong$"),
    ):
        copies(loader.epoch(0))
    with (
        loader_with_fault(dataset, "fail", num_workers=1) as loader,
        pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError: a fault of the program"),
    ):
        copies(loader.epoch(0))


@pytest.mark.parametrize(("deed", "how"), [("die", "exit code -9, SIGKILL"), ("exit", "exit code 7")])
def test_dead_worker_is_detected_at_once(dataset, deed, how):
    with loader_with_fault(dataset, deed, num_workers=2) as loader:
        begin = time.monotonic()
        with pytest.raises(UserError, match=f"a data worker died \\({how}\\).*batch 2 of epoch 0.*jpg"):
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


def test_epoch_ends_when_its_loader_is_closed(dataset):
    with detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=False, num_workers=1) as loader:
        batches = loader.epoch(0)
        next(batches)
        loader.close()
        with pytest.raises(RuntimeError, match="has been closed"):
            copies(batches)


def test_transforms_may_modify_their_arguments(dataset):
    @dataclass(frozen=True)
    class Wipe:
        def __call__(self, image, boxes, labels, rng):
            boxes[:] = 0
            labels[:] = 0
            return image, boxes, labels

    before = [sample.boxes.copy() for sample in dataset.samples]
    loader = detection_loader(
        dataset, Pipeline(Resize(), before=(Wipe(),)), 4, [(32, 32)], training=False, num_workers=0
    )
    copies(loader.epoch(0))
    for sample, boxes in zip(dataset.samples, before, strict=True):
        np.testing.assert_array_equal(sample.boxes, boxes)


def test_workers_end_with_a_garbage_collected_loader(dataset):
    loader = detection_loader(dataset, plain_pipeline(), 4, [(32, 32)], training=False, num_workers=1)
    next(loader.epoch(0))
    assert not no_workers_running()
    del loader
    gc.collect()
    assert no_workers_running()


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


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"sizes": []},
        {"num_workers": -1},
        {"seed": -1},
        {"rank": 2, "group_size": 2},
        {"max_boxes": 0},
        {"resize_rate": 0},
    ],
)
def test_invalid_arguments(dataset, options):
    arguments = {"batch_size": 4, "sizes": [(32, 32)], "training": True, **options}
    with pytest.raises(UsageError):
        detection_loader(dataset, plain_pipeline(), **arguments)


def test_empty_dataset_is_an_error(dataset):
    with pytest.raises(UserError, match=r"train\.json has no images"):
        detection_loader(replace(dataset, samples=[]), plain_pipeline(), 4, [(32, 32)], training=True)


def test_real_images_with_and_without_workers(data_dir):
    root = data_dir / "coco_mini"
    dataset = read_coco(root / "annotations" / "instances_val2017.json", root / "val2017")
    dataset = replace(dataset, samples=dataset.samples[:48])
    results = []
    for workers in (0, 2):
        with detection_loader(
            dataset, jitter_pipeline(), 8, [(128, 128), (160, 128)], training=True, num_workers=workers
        ) as loader:
            results.append(copies(loader.epoch(0)))
    assert_equal_batches(*results)
