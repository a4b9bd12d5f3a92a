"""The files that annotations mean, where names are not quite theirs.

Windows and macOS take `ROOM.JPG` for `room.jpg`; programs write `images\\room.jpg`, the folder once more, the whole
path of the computer that labelled the image, a blank as `%20`, an accent as one sign or as two. Such a name is followed
if it leads to exactly one file, and told; no name leads out of the image folder.
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

# Files that are looked through for one of the same name in another folder.
_LOOKED_AT = 20_000


def resolve_file_names(content: RawAnnotations) -> dict[str, str]:
    """Gives images whose file is there under nearly their name that file's; returns the old names with the new."""
    names = [image.file_name for image in content.images if isinstance(image.file_name, str)]
    safe = [name for name in names if not leaves_folder(name)]
    # Nearly always all are there, which is told at once.
    absent = {*missing_files(content.image_dir, safe), *(name for name in names if leaves_folder(name))}
    folder = _Folder(content.image_dir)
    renamed: dict[str, str] = {}
    for image in content.images if absent else ():
        name = image.file_name
        if isinstance(name, str) and name in absent and "\0" not in name:
            meant = folder.find(name)
            if meant:
                renamed[name] = image.file_name = meant
    return renamed


def log_renamed(content: RawAnnotations, renamed: dict[str, str]) -> None:
    """Says which files are read in place of the names."""
    if renamed:
        pairs = first_few([f"{old} -> {new}" for old, new in renamed.items()])
        logger.warning("%s: %d file names are not quite those of the files: %s", content.source, len(renamed), pairs)


def shared_files(content: RawAnnotations) -> list[tuple[str, list[int | str]]]:
    """Files that several image ids name, with these ids: each entry makes the objects of the others background."""
    ids: dict[str, list[int | str]] = {}
    for image in content.images:
        if isinstance(image.file_name, str) and image.file_name:
            ids.setdefault(os.path.normpath(image.file_name), []).append(image.id)
    return [(name, owners) for name, owners in ids.items() if len(owners) > 1]


class FileNameResolver:
    """Finds the files that paths mean; each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, _Folder] = {}

    def resolve(self, path: Path) -> Path:
        """The file of a path, or the one in its folder that alone has nearly its name; else the path as it is."""
        if path.is_file():
            return path
        folder = self._folders.setdefault(path.parent, _Folder(path.parent))
        found = folder.find(path.name)
        return path.parent / found if found else path


def suggest_location(folder: Path, file_name: str) -> str:
    """For a message: where a file of that name is, or that the folder is empty; empty if nothing helps."""
    wanted = _key(file_name.replace("\\", "/").rpartition("/")[2].strip())
    stem = wanted.rpartition(".")[0]
    looked = 0
    for inner, folders, names in os.walk(folder):
        folders.sort()
        found = sorted(name for name in names if _key(name) == wanted)
        found += sorted(name for name in names if _key(name).rpartition(".")[0] == stem)
        if found:
            return f"; {Path(inner, found[0]).relative_to(folder)} is there"
        looked += len(names)
        if looked > _LOOKED_AT:
            return ""
    return "" if looked else "; the folder is empty"


class _Folder:
    """The files of an image folder; each of its folders is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._there: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> str:
        """The one file that a name means; empty if there is none."""
        return next((found for candidate in self._candidates(name) if (found := self._find(candidate))), "")

    def _candidates(self, name: str) -> Iterator[str]:
        """Relative names that a name may stand for, the nearest first."""
        plain = name.replace("\\", "/")
        for form in dict.fromkeys((plain, unquote(plain) if "%" in plain else plain)):
            whole = os.path.normpath(self.root.absolute() / form)
            # Also what leads out and in again, or names the whole path.
            inside = os.path.relpath(whole, os.path.normpath(self.root.absolute()))
            if not leaves_folder(inside):
                yield inside
            yield from _without_folder(form.split("/"), self.root.absolute().parts)

    def _find(self, name: str) -> str:
        """A relative name as the files write it, if letter case and signs of accents alone differ."""
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
        """Names in a folder by what they have in common with those of other letter case."""
        if inner not in self._there:
            listing: dict[str, list[str]] = {}
            try:
                with os.scandir(self.root / inner) as entries:
                    for entry in entries:
                        listing.setdefault(_key(entry.name), []).append(entry.name)
            except (OSError, ValueError):
                listing = {}
            self._there[inner] = listing
        return self._there[inner]


def _without_folder(parts: Sequence[str], root: Sequence[str]) -> Iterator[str]:
    """What follows the name of the image folder in a path: `train/1.jpg` in `data/train` is `1.jpg` there."""
    for end in range(len(parts) - 1, 0, -1):
        if _key(parts[end - 1]) == _key(root[-1]):
            rest = "/".join(parts[end:])
            if not leaves_folder(rest):
                yield rest


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
