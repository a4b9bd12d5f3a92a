"""Reads MindRecord files: annotations of a split, and random access to its images.

Each split has its own folder, `FOLDER/train`: the shards `train.mindrecord0`, `train.mindrecord1`, ... with their
indices (`.db`), and `train.json`, the annotations in COCO's format with a fingerprint. A record has the fields `image`
(the bytes of the file), `annotation` (float32 (n, 5): left, top, right, bottom in pixels, label), `file_name`,
`image_id` (as JSON, because integer and string ids differ), `image_size` (bytes) and `crc32` of the image. MindSpore's
`MindDataset` can read the files too.

The shards are written by MindSpore but read through their index, a SQLite database: training needs random access, and
opening a `MindDataset` for each batch takes longer than reading the batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from msdet.data.annotations import RawAnnotations
from msdet.data.categories import UNUSED_CLASS
from msdet.data.dataset import DetectionDataset
from msdet.data.formats.coco.read import decode_coco
from msdet.errors import UserError
from msdet.text import first_few, printable

_QUERY = "SELECT file_name_0, PAGE_ID_BLOB, PAGE_OFFSET_BLOB_END, image_size_0, crc32_0 FROM INDEXES ORDER BY ROW_ID"
FORMAT_VERSION = "detection dataset 1"
_SHARD = re.compile(r".+\.mindrecord\d*", re.IGNORECASE)
# First word of the file names in lower case -> the model for which the old model zoo wrote them.
_OLD_ZOO = {"efficientdet": "EfficientDet", "refinedet": "RefineDet"}


def shard_paths(inner: Path, split: str) -> list[Path]:
    """The existing shards of a split, up to the first missing number."""
    numbered = (inner / f"{split}.mindrecord{number}" for number in itertools.count())
    return list(itertools.takewhile(Path.is_file, numbered))


def has_split(folder: Path, split: str) -> bool:
    """True if a folder contains a split as MindRecord files."""
    return (folder / split / f"{split}.json").is_file() or bool(shard_paths(folder / split, split))


def refuse_foreign_mindrecord(folder: Path) -> None:
    """Rejects a folder with MindRecord files of other programs: those written here are in one folder per split.

    Raises:
        UserError: the folder itself contains MindRecord files, and no split written here.
    """
    if not folder.is_dir() or any(has_split(folder, split) for split in ("train", "val", "test")):
        return
    shards = sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    if not shards:
        return
    model = _OLD_ZOO.get(shards[0].lower().partition(".")[0].removesuffix("_eval"))
    writer = f"of the old model zoo's {model}" if model else "of another program"
    lack = ", which contain neither file names nor image sizes nor crowd regions" if model else ""
    raise UserError(
        f"{folder} contains MindRecord files {writer} ({first_few(shards, 2)}){lack}: only files of msdet can be "
        "read.\nGive images and annotations with --data_dir, and with --mindrecord_dir a folder without these files: "
        "new ones are created there."
    )


def read_info(inner: Path, split: str) -> dict[str, Any]:
    """The `info` object of a split's annotations: format version, fingerprint, counts and source.

    Raises:
        UserError: the file is missing or was written by another program.
    """
    path = inner / f"{split}.json"
    if not path.is_file():
        raise UserError(
            f"{path.parent} contains MindRecord files without {path.name}: another program wrote them. Create them "
            "again with msdet create_data"
        )
    try:
        info = _head(path.read_bytes()).info
    except (msgspec.DecodeError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if not isinstance(info, dict) or info.get("form") != FORMAT_VERSION:
        raise UserError(f"{path} has an unknown format version: create it again with msdet create_data")
    return info


class _Head(msgspec.Struct):
    info: Any = None


def _head(raw: bytes) -> _Head:
    """The top-level `info`; the fast decoder rejects the escapes of file names that are not UTF-8."""
    try:
        return msgspec.json.decode(raw, type=_Head)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(raw), _Head)


def load_mindrecord(inner: Path, split: str) -> tuple[RawAnnotations, MindRecordStore]:
    """Annotations of a split, and the store that reads its images.

    Args:
        inner: folder of the split.
        split: its name, with which its file names begin.

    Raises:
        UserError: files are missing, damaged or do not belong together.
    """
    info = read_info(inner, split)
    path = inner / f"{split}.json"
    raw = path.read_bytes()
    file = decode_coco(path, raw)
    annotations = RawAnnotations(path, inner, file.images, file.annotations, file.categories, "mindrecord", raw)
    store = MindRecordStore.open(inner, shard_paths(inner, split), info)
    absent = [image.file_name for image in annotations.images if printable(str(image.file_name)) not in store.rows]
    if absent or len(store.rows) != len(annotations.images):
        raise UserError(
            f"{inner}: {path.name} lists {len(annotations.images)} images, the shards contain {len(store.rows)}"
            f"{', not ' + str(absent[0]) if absent else ''}: create it again with msdet create_data"
        )
    return annotations, store


@dataclass
class MindRecordStore:
    """Random access to the images in shards by file name. Pickled copies in workers open the files themselves.

    Attributes:
        folder: the folder to which image paths are relative.
        shards: the files.
        rows: printable file name -> shard number, offset in the file, size in bytes, crc32.
    """

    folder: Path
    shards: list[Path]
    rows: dict[str, tuple[int, int, int, int]]

    @classmethod
    def open(cls, folder: Path, shards: Sequence[Path], info: dict[str, Any] | None = None) -> MindRecordStore:
        """Reads the indices of the shards.

        Raises:
            UserError: a shard or an index is missing, damaged, or shorter than its index says.
        """
        if info is not None and len(shards) != info.get("shards"):
            raise UserError(f"{folder} contains {len(shards)} of {info.get('shards')} shards: the set is incomplete")
        rows: dict[str, tuple[int, int, int, int]] = {}
        for number, shard in enumerate(shards):
            for name, offset, size, crc in _index(shard):
                rows[name] = (number, offset, size, crc)
        return cls(folder, list(shards), rows)

    def read(self, path: Path) -> bytes:
        """The encoded bytes of an image.

        Args:
            path: in `folder`.

        Raises:
            UserError: the shard cannot be read, or the checksum of the image does not match.
        """
        shard, offset, size, crc = self.rows[self._row(path)]
        try:
            data = os.pread(self._descriptor(shard), size, offset)
        except OSError as error:
            raise UserError(f"{self.shards[shard]} cannot be read ({error.strerror})") from error
        if len(data) != size or zlib.crc32(data) != crc:
            raise UserError(f"image {path} in {self.shards[shard]} is damaged: create the MindRecord files again")
        return data

    def size(self, path: Path) -> int:
        """The number of encoded bytes of an image."""
        return self.rows[self._row(path)][2]

    def _row(self, path: Path) -> str:
        return printable(path.relative_to(self.folder).as_posix())

    def _descriptor(self, shard: int) -> int:
        opened = self.__dict__.setdefault("_opened", {})
        if shard not in opened:
            opened[shard] = self.shards[shard].open("rb", buffering=0)
        return opened[shard].fileno()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}


def _index(shard: Path) -> Iterator[tuple[str, int, int, int]]:
    """File name, offset in the shard, size in bytes and crc32 of the image of each record of a shard."""
    database = Path(f"{shard}.db")
    try:
        with shard.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 1 << 27)))
        page, start, total = header["page_size"], header["header_size"], shard.stat().st_size
        if not database.is_file():
            raise UserError(f"{database}, the index of {shard.name}, is missing")
        with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(_QUERY).fetchall()
    except (OSError, ValueError, KeyError, struct.error, sqlite3.Error) as error:
        raise UserError(f"{shard} or its index is damaged ({error}): create it again with msdet create_data") from error
    for name, number, end, size, crc in found:
        # The image is the last part of the blob of its record.
        offset = start + page * number + end - size
        if offset + size > total:
            raise UserError(f"{shard} is truncated before its image {name}: create it again with msdet create_data")
        yield name, offset, size, crc


def fingerprint(dataset: DetectionDataset) -> str:
    """SHA-256 of categories, images and annotations, independent of the label map of a model."""
    pairs = zip(dataset.category_ids, dataset.class_names, strict=True)
    digest = hashlib.sha256(repr(sorted(pair for pair in pairs if pair[1] != UNUSED_CLASS)).encode())
    ids = np.array(dataset.category_ids, np.int64)
    for sample in dataset.samples:
        name = sample.image_path.relative_to(dataset.image_dir).as_posix()
        digest.update(repr((name, sample.image_id, sample.width, sample.height)).encode())
        for array in (sample.boxes, ids[sample.labels], sample.iscrowd, sample.difficult):
            digest.update(array.tobytes())
    return digest.hexdigest()
