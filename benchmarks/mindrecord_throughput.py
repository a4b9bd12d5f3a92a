"""Images per second from MindRecord against image files: `python benchmarks/run.py mindrecord`.

The loader produces the same batches of 416 px from both, with the augmentation of the YOLOs, which is checked
before anything is timed. A third implementation is MindSpore's own pipeline over the same MindRecord files: decode
and resize by its C++ operators in two threads, without augmentation and without boxes. All files are in the page cache:
on a disk that has to seek, or a network file system, large files gain more than they can here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.data_throughput import BATCH, IMAGES, enlarged
from benchmarks.report import Options, Result
from benchmarks.side_by_side import alternate_epochs
from msdet.data.build_dataset import build_dataset
from msdet.data.dataset import DetectionDataset
from msdet.data.formats.coco.layouts import find_split
from msdet.data.formats.coco.read import read_coco
from msdet.data.formats.mindrecord.read import load_mindrecord, shard_paths
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.data.loading.loader import BatchLoader
from msdet.data.loading.loaders import detection_loader
from msdet.data.read_options import ReadOptions
from msdet.data.transforms.pipeline import jitter_pipeline

FILES, RECORDS, MINDDATASET = "files", "MindRecord", "MindDataset, decode and resize in C++, 2 threads"


def measure(options: Options) -> Result:
    """Measures the loader over files and over MindRecord, in this process and with two workers."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(options, Path(folder))


def _measure(options: Options, folder: Path) -> Result:
    result = Result()
    cv2.setNumThreads(1)
    side = 96 if options.quick else 416
    paths = find_split(options.dataset(), "train")
    files = read_coco(paths.ann_file, paths.image_dir)
    write_mindrecord(files, folder, "train")
    content, content.store = load_mindrecord(folder / "train", "train")
    records = build_dataset(content, ReadOptions())
    check_same_batches(files, records, side)
    count = 2 * BATCH if options.quick else IMAGES
    loaders = {
        _name(name, workers): _loader(enlarged(dataset, count), side, workers)
        for name, dataset in ((FILES, files), (RECORDS, records))
        for workers in (0, 2)
    }
    shards = [str(path) for path in shard_paths(folder / "train", "train")]
    batches = count // BATCH
    sides = {MINDDATASET: lambda: mindspore_loop(shards, batches, len(files), side)}
    seconds = alternate_epochs(sides, loaders, options.count(7))
    what = f"YOLOv3 training input, {side} px"
    images = len(enlarged(files, count)) // BATCH * BATCH
    counts = dict.fromkeys(loaders, images) | {MINDDATASET: batches * BATCH}
    rates = result.keep(what, {name: [counts[name] / s for s in values] for name, values in seconds.items()})
    for workers in (0, 2):
        result.compare(what, "images/s", rates, _name(RECORDS, workers), _name(FILES, workers))
    result.compare(what, "images/s", rates, _name(RECORDS, 2), MINDDATASET)
    result.notes.append(f"{what}: the batches of both are equal, pixel for pixel and box for box; page cache warm.")
    return result


def _name(source: str, workers: int) -> str:
    return f"{source}, {f'{workers} workers' if workers else 'in process'}"


def _loader(dataset: DetectionDataset, side: int, workers: int) -> BatchLoader:
    return detection_loader(dataset, jitter_pipeline(), BATCH, [(side, side)], training=True, num_workers=workers)


def check_same_batches(files: DetectionDataset, records: DetectionDataset, side: int, count: int = 2) -> None:
    """Raises:
    RuntimeError: the first batches of the two differ.
    """
    with _loader(files, side, 0) as one, _loader(records, side, 0) as other:
        for number, (ours, theirs) in enumerate(zip(one.epoch(0), other.epoch(0), strict=True)):
            if not all(map(np.array_equal, ours.arrays().values(), theirs.arrays().values())):
                raise RuntimeError(f"batch {number} from files and from MindRecord differ")
            if number + 1 == count:
                return


def mindspore_loop(shards: list[str], batches: int, images: int, side: int) -> int:
    """Iterates over `batches` batches of MindSpore's own pipeline over the shards."""
    from mindspore.dataset import MindDataset, vision

    rows = MindDataset(shards, columns_list=["image"], shuffle=True, num_parallel_workers=2)
    rows = rows.map([vision.Decode(), vision.Resize((side, side))], "image", num_parallel_workers=2)
    rows = rows.batch(BATCH, drop_remainder=True).repeat(-(-batches // (images // BATCH)))
    found = 0
    for _ in rows.create_dict_iterator(num_epochs=1, output_numpy=True):
        found += 1
        if found == batches:
            break
    return found
