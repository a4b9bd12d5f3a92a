"""Writes MindRecord files, atomically per split. Their format is described in `read.py`."""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from msdet.data.dataset import DetectionDataset, Sample
from msdet.data.formats.coco.write import coco_of, write_coco
from msdet.data.formats.mindrecord.read import FORMAT_VERSION, fingerprint, load_mindrecord
from msdet.errors import UserError
from msdet.files import apply_umask, sync_to_disk, unique_number
from msdet.folder_lock import LOCK_NAME, FolderInUse, FolderLock
from msdet.text import is_encodable, printable

SHARDS = 8
_ROWS = 64
_SCHEMA = {
    "annotation": {"type": "float32", "shape": [-1, 5]},
    "image": {"type": "bytes"},
    "file_name": {"type": "string"},
    "image_id": {"type": "string"},
    "image_size": {"type": "int64"},
    "crc32": {"type": "int64"},
}


def write_mindrecord(dataset: DetectionDataset, folder: Path, split: str, shards: int = SHARDS) -> Path:
    """Writes a split to a temporary folder, verifies it, flushes it to disk and renames the folder.

    Args:
        dataset: what to write; its images are copied unchanged.
        folder: parent of the folder of the split, which must not exist.
        split: "train", "val" or "test".
        shards: number of files.

    Returns:
        the folder of the split.

    Raises:
        UserError: the folder exists, an image cannot be read, the disk is full, or verification fails.
    """
    final = folder / split
    if final.exists():
        raise UserError(f"{final} already exists: MindRecord files are never overwritten; remove it first")
    temporary = folder / f".{split}.{unique_number()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_orphans(folder, split)
        with FolderLock(temporary):
            names = _write_shards(dataset, temporary, split, shards)
            info = {
                "form": FORMAT_VERSION,
                "fingerprint": fingerprint(dataset),
                "split": split,
                "shards": shards,
                "images": len(dataset),
                "made_from": str(dataset.ann_file),
                "format": dataset.format,
            }
            write_coco({"info": info, **coco_of(dataset)}, temporary / f"{split}.json")
            _verify(temporary, split, names)
            for path in temporary.iterdir():
                apply_umask(path)
                sync_to_disk(path)
            sync_to_disk(temporary)
            temporary.rename(final)
            (final / LOCK_NAME).unlink(missing_ok=True)
            sync_to_disk(folder)
    except OSError as error:
        raise UserError(f"{final} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _remove_orphans(folder: Path, split: str) -> None:
    """Removes temporary folders of killed processes; a running process, on any machine, holds the lock of its own."""
    for path in folder.glob(f".{split}.*"):
        # A folder without lock file was just created by another process.
        if path.name.rpartition(".")[2].isdecimal() and (path / LOCK_NAME).exists():
            with suppress(FolderInUse, OSError), FolderLock(path) as lock:
                if lock.is_held:
                    shutil.rmtree(path, ignore_errors=True)


def _write_shards(dataset: DetectionDataset, folder: Path, split: str, shards: int) -> dict[str, tuple[int, int]]:
    """Writes the records; returns size and crc32 of each image by file name."""
    # Importing MindSpore takes seconds, and reading does not need it.
    from mindspore.mindrecord import FileWriter

    if is_encodable(str(folder.absolute())):
        return _write_records(dataset, FileWriter(str(folder / f"{split}.mindrecord"), shards), shards)
    # MindSpore accepts only folder names that are UTF-8: write elsewhere and move the files.
    with tempfile.TemporaryDirectory() as elsewhere:
        written = _write_records(dataset, FileWriter(f"{elsewhere}/{split}.mindrecord", shards), shards)
        for path in Path(elsewhere).iterdir():
            shutil.move(path, folder / path.name)
    return written


def _write_records(dataset: DetectionDataset, writer: Any, shards: int) -> dict[str, tuple[int, int]]:
    total, largest = _image_bytes(dataset)
    # A record must fit in one page, and a shard consists of full-size pages.
    page = max(1 << 20, min(1 << 25, _power_of_two(total // shards // 8)), _power_of_two(2 * largest + (1 << 16)))
    writer.set_page_size(min(page, 1 << 28))
    writer.set_header_size(1 << 20 if total < 1 << 32 else 1 << 24)
    writer.add_schema(_SCHEMA, FORMAT_VERSION)
    written: dict[str, tuple[int, int]] = {}
    for start in range(0, len(dataset), _ROWS):
        rows = [_record(dataset, sample) for sample in dataset.samples[start : start + _ROWS]]
        written |= {row["file_name"]: (row["image_size"], row["crc32"]) for row in rows}
        _checked(writer.write_raw_data, rows)
    _checked(writer.commit)
    return written


def _checked(call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except RuntimeError as error:  # raised by MindSpore's writer
        raise UserError(f"MindRecord files cannot be written: {str(error).strip().splitlines()[0]}") from error


def _record(dataset: DetectionDataset, sample: Sample) -> dict[str, Any]:
    image = dataset.image_bytes(sample)
    name = sample.image_path.relative_to(dataset.image_dir).as_posix()
    boxes, labels = sample.targets()
    annotation = np.concatenate([boxes, labels[:, None].astype(np.float32)], axis=1)
    return {
        # MindSpore cannot write empty arrays: an image without boxes gets a row with label -1.
        "annotation": annotation if len(annotation) else np.array([[0, 0, 0, 0, -1]], np.float32),
        "image": image,
        "file_name": printable(name),
        "image_id": json.dumps(sample.image_id),
        "image_size": len(image),
        "crc32": zlib.crc32(image),
    }


def _image_bytes(dataset: DetectionDataset) -> tuple[int, int]:
    """Total encoded bytes of all images, and bytes of the largest image."""
    sizes = [_size_of(dataset, sample) for sample in dataset.samples]
    return sum(sizes), max(sizes, default=0)


def _size_of(dataset: DetectionDataset, sample: Sample) -> int:
    if dataset.store is not None:
        return dataset.store.size(sample.image_path)
    # A missing file is reported when it is read.
    return sample.image_path.stat().st_size if sample.image_path.is_file() else 0


def _power_of_two(value: int) -> int:
    return 1 << max(value - 1, 1).bit_length()


def _verify(folder: Path, split: str, written: dict[str, tuple[int, int]]) -> None:
    """Reads all images back.

    Raises:
        UserError: an image differs from what was written.
    """
    annotations, store = load_mindrecord(folder, split)
    for image in annotations.images:
        data = store.read(folder / image.file_name)
        if (len(data), zlib.crc32(data)) != written[printable(image.file_name)]:
            raise UserError(f"{folder}: image {image.file_name} differs after writing")
