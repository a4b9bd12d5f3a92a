"""Pictures sorted into a folder a class, and batches of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Unpack, overload

import numpy as np

from msdet.data.dataset import ImageSource
from msdet.data.images.decode import MAX_IMAGE_PIXELS, decode_image
from msdet.data.images.file_names import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, READABLE_SUFFIXES, is_litter
from msdet.data.images.notes import ImageNote, collected_notes
from msdet.data.loading.batch import BatchTask, ImageBatch, next_samples
from msdet.data.loading.loader import Loader, LoaderOptions
from msdet.data.loading.order import sample_rng
from msdet.data.transforms.pipeline import Pipeline
from msdet.errors import UserError
from msdet.text import some_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassSample:
    """One picture: its file, its id (CLASS/FILE) and its label, an index into the class names."""

    image_path: Path
    image_id: str
    label: int


class ImageFolder(Sequence[ClassSample]):
    """The pictures of one split. It keeps names only: a sample is made when it is asked for.

    Attributes:
        root: the folder that holds a folder a class.
        class_names: name of each label, which is the name of its folder.
        files: CLASS/FILE of each picture, class by class, sorted.
        labels: int32 (n,).
        store: where the pictures are, if they are no files.
        category_ids: none; detectors have some.
    """

    category_ids: tuple[int, ...] = ()

    def __init__(
        self,
        root: Path,
        class_names: Sequence[str],
        files: list[str],
        labels: np.ndarray,
        store: ImageSource | None = None,
    ) -> None:
        self.root = root
        self.class_names = list(class_names)
        self.files = files
        self.labels = labels
        self.store = store

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> ClassSample: ...

    @overload
    def __getitem__(self, index: slice) -> list[ClassSample]: ...

    def __getitem__(self, index: int | slice) -> ClassSample | list[ClassSample]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return ClassSample(self.root / self.files[index], self.files[index], int(self.labels[index]))

    @property
    def samples(self) -> ImageFolder:
        """The pictures, under the name that other datasets have for them."""
        return self

    @property
    def ann_file(self) -> Path:
        """Where the labels come from, for messages."""
        return self.root

    def fingerprint(self) -> str:
        """SHA-256 over class names and files: two folders of one fingerprint train alike."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for name in self.files:
            digest.update(name.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()


def class_folders(root: Path) -> list[str]:
    """Names of the classes in a folder, sorted.

    Raises:
        UserError: the folder is missing, or holds no folder.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder: it should hold a folder a class, with the class's pictures in it")
    with os.scandir(root) as entries:
        found = [(entry.name, entry.is_dir()) for entry in entries if not is_litter(entry.name)]
    names = sorted(name for name, is_dir in found if is_dir)
    if not names:
        pictures = sum(name.lower().endswith(IMAGE_SUFFIXES) for name, _ in found)
        hint = f"; the {pictures} pictures in it belong into a folder a class" if pictures else ""
        raise UserError(
            f"{root} holds no class: it should hold a folder a class, with the class's pictures in it{hint}"
        )
    return names


def read_image_folder(root: Path, class_names: Sequence[str] = ()) -> ImageFolder:
    """Lists the pictures of a split (by their names alone: they are read when their batch is due).

    Other files in the folders of the classes are counted in a warning.

    Args:
        root: holds a folder a class.
        class_names: of the labels, in their order; empty: the folders', sorted.

    Raises:
        UserError: the folders are not those of the classes, or one of them holds no picture.
    """
    folders = class_folders(root)
    names = list(class_names) or folders
    refuse_differing_classes(folders, names, str(root), "the classes that are asked for")
    label_of = {name: label for label, name in enumerate(names)}
    files: list[str] = []
    labels: list[int] = []
    left_out: list[str] = []
    for folder in folders:
        pictures, others = _listed(root / folder)
        left_out += [f"{folder}/{name}" for name in others]
        if not pictures:
            raise UserError(
                f"class {folder!r} has no picture: {root / folder} holds no file ending in "
                f"{', '.join(READABLE_SUFFIXES)}"
            )
        files += [f"{folder}/{name}" for name in pictures]
        labels += [label_of[folder]] * len(pictures)
    if left_out:
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in left_out)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        is_image = any(name.lower().endswith(FOREIGN_SUFFIXES) for name in left_out)
        hint = "; convert the images among them to JPEG or PNG" if is_image else ""
        log.warning(
            "%s: %d files are not read as pictures (%s): %s%s", *(root, len(left_out), counts, some_of(left_out), hint)
        )
    return ImageFolder(root, names, files, np.array(labels, np.int32))


def refuse_differing_classes(found: Sequence[str], wanted: Sequence[str], place: str, other: str) -> None:
    """Two sets of classes must be one.

    Args:
        found: of `place`.
        wanted: of `other`.

    Raises:
        UserError: with the names that one side lacks.
    """
    extra, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    if not extra and not missing:
        return
    parts = [f"{len(names)} only {where}: {some_of(names)}" for names, where in
             ((extra, f"in {place}"), (missing, f"in {other}")) if names]  # fmt: skip
    raise UserError(f"the class folders of {place} ({len(found)}) are not {other} ({len(wanted)}); {'; '.join(parts)}")


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the pictures in a folder, and of its other files, both sorted; hidden ones and litter are neither."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not is_litter(entry.name) and entry.is_file())
    pictures = [name for name in names if name.lower().endswith(READABLE_SUFFIXES)]
    return pictures, [name for name in names if not name.lower().endswith(READABLE_SUFFIXES)]


class ClassTransform(Protocol):
    """From a file to the network's input; it travels to the workers."""

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        """Fills `canvas` uint8 (h, w, 3) RGB; `data` are the bytes of the file, if it has been read.

        Raises:
            UserError: the file cannot be used.
        """
        ...


@dataclass(frozen=True)
class Placed:
    """A transform that decodes and then does what a pipeline of detectors' steps says."""

    pipeline: Pipeline

    def __call__(
        self, path: Path, canvas: np.ndarray, rng: np.random.Generator, max_pixels: int, data: bytes | None = None
    ) -> None:
        def load(_: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return (
                decode_image(path, max_pixels=max_pixels, data=data),
                np.zeros((0, 4), np.float32),
                np.zeros(0, np.int32),
            )

        self.pipeline(load, 0, 1, canvas, rng)


class ClassBatch(ImageBatch):
    """Pictures and their labels, int32 (N,)."""

    @property
    def valid_sizes(self) -> np.ndarray:
        """All of the input; nothing is padded."""
        return np.tile(np.array([self.size], np.int32), (len(self.images), 1))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """What a training step takes, in order: images, valid sizes, labels."""
        return self.images, self.valid_sizes, self.labels


@dataclass(slots=True)
class ClassTargets:
    """What a batch is besides its pixels: labels; see `ImageTargets`."""

    labels: np.ndarray
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[ImageNote] = field(default_factory=list)


@dataclass(frozen=True)
class ClassBatchMaker:
    """See `Maker`.

    All randomness of a picture comes from (seed, epoch, its number), so that a run is the same for any number of
    workers and can go on in the middle of an epoch.
    """

    dataset: ImageFolder
    transform: ClassTransform
    seed: int
    max_image_pixels: int = MAX_IMAGE_PIXELS
    stand_in: str = "none"

    def make(self, task: BatchTask, images: np.ndarray) -> ClassTargets:
        bad: dict[int, str] = {}
        with collected_notes() as notes:
            indices = [
                self._fill(images[position], index, key, task.epoch, bad)
                for position, (index, key) in enumerate(zip(task.indices.tolist(), task.keys.tolist(), strict=True))
            ]
        return ClassTargets(self.dataset.labels[indices], bad, notes)

    def _fill(self, canvas: np.ndarray, index: int, key: int, epoch: int, bad: dict[int, str]) -> int:
        """Fills a canvas with a picture or what stands in for it; returns the position of the picture it shows."""
        behind = next_samples(index, len(self.dataset)) if self.stand_in == "next" else ()
        for candidate in (index, *behind):
            rng = sample_rng(self.seed, epoch, key)
            try:
                path, store = self.dataset[candidate].image_path, self.dataset.store
                data = None if store is None else store.read(path)
                self.transform(path, canvas, rng, self.max_image_pixels, data)
            except UserError as error:
                if self.stand_in == "none":
                    raise
                bad[candidate] = str(error)
            else:
                return candidate
        if self.stand_in == "next":
            raise UserError(f"{bad[index]}; and so are the pictures behind it")
        canvas[...] = 128
        return index


class ClassLoader(Loader[ClassTargets, ClassBatch]):
    """Batches of an image folder.

    Args:
        dataset: the pictures.
        pipeline: a `ClassTransform`, or a `Pipeline` whose placement brings the picture to the input's size.
        batch_size, sizes, options: see `Loader`.
    """

    def __init__(
        self,
        dataset: ImageFolder,
        pipeline: ClassTransform | Pipeline,
        batch_size: int,
        sizes: Sequence[tuple[int, int]],
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(dataset, batch_size, sizes, **options)
        transform = Placed(pipeline) if isinstance(pipeline, Pipeline) else pipeline
        self._files = dataset.files
        self._maker = ClassBatchMaker(dataset, transform, self._seed, self._max_image_pixels, self._stand_in)

    def _batch(self, task: BatchTask, images: np.ndarray, targets: ClassTargets) -> ClassBatch:
        return ClassBatch(
            images=images,
            labels=targets.labels,
            image_ids=[self._files[index] for index in task.indices.tolist()],
            size=task.size,
            indices=task.indices,
            epoch=task.epoch,
            number=task.number,
        )
