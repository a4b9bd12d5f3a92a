"""MindRecord: the images and annotations of a split in a few large files, and random access to the images in them.

A split lies in a folder of its own, `FOLDER/train`: the shards `train.mindrecord0`, `train.mindrecord1`, ... with their
indices (`.db`), and `train.json`, the annotations in COCO's form with a fingerprint. A record holds `image` (the bytes
of the file), `annotation` (float32 (n, 5): left, top, right, bottom in px, label), `file_name`, `image_id` (as JSON,
since a number and a text differ), `image_size` (bytes) and `crc32` of the image, so that MindSpore's own `MindDataset`
reads it too.

MindSpore writes; reading goes by the index, which is a SQLite database: a training wants the images in any order, and
opening a `MindDataset` for a batch takes longer than to read it.
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
# First word of the files' names, in small letters -> the model that they were made for.
_OLD_ZOO = {"efficientdet": "EfficientDet", "refinedet": "RefineDet"}


def shard_paths(inner: Path, split: str) -> list[Path]:
    """The shards of a split that are in its folder, up to the first that is missing."""
    numbered = (inner / f"{split}.mindrecord{number}" for number in itertools.count())
    return list(itertools.takewhile(Path.is_file, numbered))


def has_split(folder: Path, split: str) -> bool:
    """Whether a folder holds a split as MindRecord."""
    return (folder / split / f"{split}.json").is_file() or bool(shard_paths(folder / split, split))


def refuse_foreign_mindrecord(folder: Path) -> None:
    """Refuses a folder whose MindRecord files lie in it directly: those written here lie in a folder of each split.

    Raises:
        UserError: there are such files, and none that were written here.
    """
    if not folder.is_dir() or any(has_split(folder, split) for split in ("train", "val", "test")):
        return
    shards = sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    if not shards:
        return
    model = _OLD_ZOO.get(shards[0].lower().partition(".")[0].removesuffix("_eval"))
    writer = f"of the old model zoo's {model}" if model else "of another program"
    lack = ", which keep neither file names nor image sizes nor crowd regions" if model else ""
    raise UserError(
        f"{folder} holds MindRecord files {writer} ({first_few(shards, 2)}){lack}: only those made here can be "
        "read.\nGive images and annotations with --data_dir, and with --mindrecord_dir a folder without these files: "
        "new ones are made there."
    )


def read_info(inner: Path, split: str) -> dict[str, Any]:
    """The `info` of a split's annotations: form, fingerprint, counts, and what it was made from.

    Raises:
        UserError: the file is missing or of another program.
    """
    path = inner / f"{split}.json"
    if not path.is_file():
        raise UserError(
            f"{path.parent} holds MindRecord files without {path.name}: another program made them. Make them again "
            "with msdet create_data"
        )
    try:
        info = _head(path.read_bytes()).info
    except (msgspec.DecodeError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if not isinstance(info, dict) or info.get("form") != FORMAT_VERSION:
        raise UserError(f"{path} is not of a form that is known here: make it again with create_data")
    return info


class _Head(msgspec.Struct):
    info: Any = None


def _head(raw: bytes) -> _Head:
    """The fast decoder refuses the escapes of names that are no UTF-8."""
    try:
        return msgspec.json.decode(raw, type=_Head)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(raw), _Head)


def load_mindrecord(inner: Path, split: str) -> tuple[RawAnnotations, MindRecordStore]:
    """Annotations of a split, and where its images are.

    Args:
        inner: folder of the split.
        split: its name, with which its files begin.

    Raises:
        UserError: files are missing, damaged or do not belong together.
    """
    info = read_info(inner, split)
    path = inner / f"{split}.json"
    raw = path.read_bytes()
    file = decode_coco(path, raw)
    content = RawAnnotations(path, inner, file.images, file.annotations, file.categories, "mindrecord", raw)
    store = MindRecordStore.open(inner, shard_paths(inner, split), info)
    absent = [image.file_name for image in content.images if printable(str(image.file_name)) not in store.rows]
    if absent or len(store.rows) != len(content.images):
        raise UserError(
            f"{inner}: {path.name} lists {len(content.images)} images, the shards hold {len(store.rows)}"
            f"{', not ' + str(absent[0]) if absent else ''}: make it again with create_data"
        )
    return content, store


@dataclass
class MindRecordStore:
    """The images of shards by name. It travels to workers, which open the files for themselves.

    Attributes:
        folder: that image paths start from.
        shards: the files.
        rows: file name, as it is printable, -> shard, offset in the file, bytes, crc32.
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
            raise UserError(f"{folder} holds {len(shards)} of {info.get('shards')} shards: the set is not whole")
        rows: dict[str, tuple[int, int, int, int]] = {}
        for number, shard in enumerate(shards):
            for name, offset, size, crc in _index(shard):
                rows[name] = (number, offset, size, crc)
        return cls(folder, list(shards), rows)

    def read(self, path: Path) -> bytes:
        """The bytes of an image.

        Args:
            path: below `folder`.

        Raises:
            UserError: the shard cannot be read, or its bytes are not those that were written.
        """
        shard, offset, size, crc = self.rows[self._row(path)]
        try:
            data = os.pread(self._descriptor(shard), size, offset)
        except OSError as error:
            raise UserError(f"{self.shards[shard]} cannot be read ({error.strerror})") from error
        if len(data) != size or zlib.crc32(data) != crc:
            raise UserError(f"image {path} in {self.shards[shard]} is damaged: make the MindRecord again")
        return data

    def size(self, path: Path) -> int:
        """Bytes of an image."""
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
    """File name, offset and size of the image in the file, and crc32, of each record of a shard."""
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
        raise UserError(f"{shard} or its index is damaged ({error}): make it again with create_data") from error
    for name, number, end, size, crc in found:
        # The image is the last part of the blob of its record.
        offset = start + page * number + end - size
        if offset + size > total:
            raise UserError(f"{shard} ends before its image {name}: it is cut off, make it again with create_data")
        yield name, offset, size, crc


def fingerprint(dataset: DetectionDataset) -> str:
    """SHA-256 over classes, images and annotations as their files number them, whatever labels a model gives them."""
    pairs = zip(dataset.category_ids, dataset.class_names, strict=True)
    digest = hashlib.sha256(repr(sorted(pair for pair in pairs if pair[1] != UNUSED_CLASS)).encode())
    ids = np.array(dataset.category_ids, np.int64)
    for sample in dataset.samples:
        name = sample.image_path.relative_to(dataset.image_dir).as_posix()
        digest.update(repr((name, sample.image_id, sample.width, sample.height)).encode())
        for array in (sample.boxes, ids[sample.labels], sample.iscrowd, sample.difficult):
            digest.update(array.tobytes())
    return digest.hexdigest()
