"""Classification datasets with one folder per class."""

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
    """One image: its file, its id (CLASS/FILE) and its label, an index into the class names."""

    image_path: Path
    image_id: str
    label: int


class ImageFolder(Sequence[ClassSample]):
    """The images of one split. It stores file names only; samples are created on access.

    Attributes:
        root: the folder that contains one folder per class.
        class_names: name of each label, which is the name of its folder.
        files: CLASS/FILE of each image, class by class, sorted.
        labels: int32 (n,).
        store: reads the images where they are not separate files.
        category_ids: empty; detection datasets have category ids.
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
        """The dataset itself, under the attribute name of `DetectionDataset`."""
        return self

    @property
    def ann_file(self) -> Path:
        """The folder that defines the labels, for messages."""
        return self.root

    def fingerprint(self) -> str:
        """SHA-256 of class names and file names; equal if two folders hold the same dataset."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for name in self.files:
            digest.update(name.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()


def class_folders(root: Path) -> list[str]:
    """Class names of a dataset folder, sorted.

    Raises:
        UserError: the folder is missing, or contains no folder.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: it should contain one folder per class with the images of the class")
    with os.scandir(root) as entries:
        found = [(entry.name, entry.is_dir()) for entry in entries if not is_ignored_name(entry.name)]
    names = sorted(name for name, is_dir in found if is_dir)
    if not names:
        images = sum(name.lower().endswith(IMAGE_SUFFIXES) for name, _ in found)
        hint = f"; move its {images} images into one folder per class" if images else ""
        raise UserError(
            f"{root} contains no class: it should contain one folder per class with the images of the class{hint}"
        )
    return names


def read_image_folder(root: Path, class_names: Sequence[str] = ()) -> ImageFolder:
    """Lists the images of a split by file name; files are opened only when a batch needs them.

    Other files in the class folders are counted in a warning.

    Args:
        root: contains one folder per class.
        class_names: the classes in label order; empty: the folder names, sorted.

    Raises:
        UserError: the folders do not match the classes, or a folder contains no image.
    """
    folders = class_folders(root)
    names = list(class_names) or folders
    check_same_classes(folders, names, str(root), "the configured classes")
    label_of = {name: label for label, name in enumerate(names)}
    files: list[str] = []
    labels: list[int] = []
    skipped: list[str] = []
    for folder in folders:
        images, others = _list_files(root / folder)
        skipped += [f"{folder}/{name}" for name in others]
        if not images:
            raise UserError(
                f"class {folder!r} has no images: {root / folder} contains no file ending in "
                f"{', '.join(READABLE_SUFFIXES)}"
            )
        files += [f"{folder}/{name}" for name in images]
        labels += [label_of[folder]] * len(images)
    if skipped:
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in skipped)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        is_image = any(name.lower().endswith(UNSUPPORTED_SUFFIXES) for name in skipped)
        hint = "; convert the images among them to JPEG or PNG" if is_image else ""
        log.warning(
            "%s: skipped %d files that are not readable images (%s): %s%s",
            *(root, len(skipped), counts, first_few(skipped), hint),
        )
    return ImageFolder(root, names, files, np.array(labels, np.int32))


def check_same_classes(found: Sequence[str], wanted: Sequence[str], place: str, other: str) -> None:
    """Checks that two sets of classes are equal.

    Args:
        found: classes of `place`.
        wanted: classes of `other`.

    Raises:
        UserError: they differ; lists the names that only one of them has.
    """
    extra, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    if not extra and not missing:
        return
    parts = [f"{len(names)} only {where}: {first_few(names)}" for names, where in
             ((extra, f"in {place}"), (missing, f"in {other}")) if names]  # fmt: skip
    raise UserError(
        f"the class folders of {place} ({len(found)}) differ from {other} ({len(wanted)}); {'; '.join(parts)}"
    )


def _list_files(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the images and of the other files in a folder, both sorted, without hidden and system files."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not is_ignored_name(entry.name) and entry.is_file())
    images = [name for name in names if name.lower().endswith(READABLE_SUFFIXES)]
    return images, [name for name in names if not name.lower().endswith(READABLE_SUFFIXES)]
