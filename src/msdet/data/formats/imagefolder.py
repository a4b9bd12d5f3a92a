"""Pictures sorted into a folder a class, and batches of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from msdet.data.dataset import ImageStore
from msdet.data.images.file_names import IMAGE_SUFFIXES, READABLE_SUFFIXES, UNSUPPORTED_SUFFIXES, is_ignored_name
from msdet.errors import UserError
from msdet.text import first_few

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
        store: ImageStore | None = None,
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
        found = [(entry.name, entry.is_dir()) for entry in entries if not is_ignored_name(entry.name)]
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
    check_same_classes(folders, names, str(root), "the classes that are asked for")
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
        is_image = any(name.lower().endswith(UNSUPPORTED_SUFFIXES) for name in left_out)
        hint = "; convert the images among them to JPEG or PNG" if is_image else ""
        log.warning(
            "%s: %d files are not read as pictures (%s): %s%s",
            *(root, len(left_out), counts, first_few(left_out), hint),
        )
    return ImageFolder(root, names, files, np.array(labels, np.int32))


def check_same_classes(found: Sequence[str], wanted: Sequence[str], place: str, other: str) -> None:
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
    parts = [f"{len(names)} only {where}: {first_few(names)}" for names, where in
             ((extra, f"in {place}"), (missing, f"in {other}")) if names]  # fmt: skip
    raise UserError(f"the class folders of {place} ({len(found)}) are not {other} ({len(wanted)}); {'; '.join(parts)}")


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the pictures in a folder, and of its other files, both sorted; hidden ones and litter are neither."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not is_ignored_name(entry.name) and entry.is_file())
    pictures = [name for name in names if name.lower().endswith(READABLE_SUFFIXES)]
    return pictures, [name for name in names if not name.lower().endswith(READABLE_SUFFIXES)]
