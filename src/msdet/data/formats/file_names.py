"""Matches file names in annotations with the files in the image folder.

Windows and macOS ignore letter case; labelling programs write `images\\room.jpg`, repeat the folder, write the absolute
path on the computer that labelled the image, a space as `%20`, or accents as separate code points. Such a name is
resolved and logged if it matches exactly one file. No name may point outside the image folder.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from msdet.data.annotations import RawAnnotations, leaves_folder
from msdet.data.validation.boxes import missing_files
from msdet.text import first_few

logger = logging.getLogger(__name__)

# Number of files that are searched for one of the same name in another folder.
_MAX_SEARCHED = 20_000


def resolve_file_names(raw: RawAnnotations) -> dict[str, str]:
    """Replaces file names of `raw` that match a file only loosely; returns old name -> new name."""
    names = [image.file_name for image in raw.images if isinstance(image.file_name, str)]
    safe = [name for name in names if not leaves_folder(name)]
    # Nearly always all files exist, which is quick to check.
    absent = {*missing_files(raw.image_dir, safe), *(name for name in names if leaves_folder(name))}
    folder = _Folder(raw.image_dir)
    renamed: dict[str, str] = {}
    for image in raw.images if absent else ():
        name = image.file_name
        if isinstance(name, str) and name in absent and "\0" not in name:
            found = folder.find(name)
            if found:
                renamed[name] = image.file_name = found
    return renamed


def log_renamed(raw: RawAnnotations, renamed: dict[str, str]) -> None:
    """Logs which files are read instead of the annotated names."""
    if renamed:
        pairs = first_few([f"{old} -> {new}" for old, new in renamed.items()])
        logger.warning("%s: %d file names differ from those of the files: %s", raw.source, len(renamed), pairs)


def shared_files(raw: RawAnnotations) -> list[tuple[str, list[int | str]]]:
    """Files with several image ids, and these ids: each entry makes the objects of the others background."""
    ids: dict[str, list[int | str]] = {}
    for image in raw.images:
        if isinstance(image.file_name, str) and image.file_name:
            ids.setdefault(os.path.normpath(image.file_name), []).append(image.id)
    return [(name, owners) for name, owners in ids.items() if len(owners) > 1]


class FileNameResolver:
    """Finds the files of paths whose names match only loosely; each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, _Folder] = {}

    def resolve(self, path: Path) -> Path:
        """The path of the file, or of the only file in its folder that matches loosely; else the path unchanged."""
        if path.is_file():
            return path
        folder = self._folders.setdefault(path.parent, _Folder(path.parent))
        found = folder.find(path.name)
        return path.parent / found if found else path


def suggest_location(folder: Path, file_name: str) -> str:
    """A hint for a message: where a file of that name or stem is, or that the folder is empty; empty if neither."""
    wanted = _key(file_name.replace("\\", "/").rpartition("/")[2].strip())
    stem = wanted.rpartition(".")[0]
    searched = 0
    for inner, folders, names in os.walk(folder):
        folders.sort()
        found = sorted(name for name in names if _key(name) == wanted)
        found += sorted(name for name in names if _key(name).rpartition(".")[0] == stem)
        if found:
            return f"; {Path(inner, found[0]).relative_to(folder)} exists"
        searched += len(names)
        if searched > _MAX_SEARCHED:
            return ""
    return "" if searched else "; the folder is empty"


class _Folder:
    """The files of an image folder; each subfolder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> str:
        """Relative name of the only file that matches a name; empty if none does."""
        return next((found for candidate in self._candidates(name) if (found := self._find(candidate))), "")

    def _candidates(self, name: str) -> Iterator[str]:
        """Relative names that a name may stand for, the most similar first."""
        plain = name.replace("\\", "/")
        for variant in dict.fromkeys((plain, unquote(plain) if "%" in plain else plain)):
            absolute = os.path.normpath(self.root.absolute() / variant)
            # Also covers absolute paths, and paths that leave the folder and return to it.
            inside = os.path.relpath(absolute, os.path.normpath(self.root.absolute()))
            if not leaves_folder(inside):
                yield inside
            yield from _without_folder(variant.split("/"), self.root.absolute().parts)

    def _find(self, name: str) -> str:
        """Relative name of the existing file that differs at most in letter case and accent encoding; else empty."""
        found = ""
        for part in name.split("/"):
            alike = self._listing(found).get(_key(part), [])
            if part in alike:
                alike = [part]
            if len(alike) != 1:
                return ""
            found = f"{found}/{alike[0]}" if found else alike[0]
        return found if (self.root / found).is_file() else ""

    def _listing(self, inner: str) -> dict[str, list[str]]:
        """Names in a folder, grouped by their normalised form."""
        if inner not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                with os.scandir(self.root / inner) as entries:
                    for entry in entries:
                        listing.setdefault(_key(entry.name), []).append(entry.name)
            except (OSError, ValueError):
                listing = {}
            self._listings[inner] = listing
        return self._listings[inner]


def _without_folder(parts: Sequence[str], root: Sequence[str]) -> Iterator[str]:
    """The parts of a path after the name of the image folder: for `data/train`, `train/1.jpg` becomes `1.jpg`."""
    for end in range(len(parts) - 1, 0, -1):
        if _key(parts[end - 1]) == _key(root[-1]):
            rest = "/".join(parts[end:])
            if not leaves_folder(rest):
                yield rest


def _key(name: str) -> str:
    """Normalised form of a name, equal for names that differ in letter case or accent encoding only."""
    return unicodedata.normalize("NFC", name).casefold()
