"""Names of the files that another program takes and gives: `NAME.bin`, and `NAME_K.bin` for output K of an image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdet.errors import UserError

_BIN = re.compile(r"(?P<name>.+)_(?P<output>\d+)\.bin")
_NUMBERED = re.compile(r".*_(?P<number>\d+)")


def result_names(images: Sequence[str | Path], place: Path) -> list[str]:
    """The NAME of each image in `NAME.bin` and `NAME_K.bin`: its own, or FOLDER_NAME where several folders have one.

    Args:
        images: paths below `place`, or absolute ones.
        place: of the data set, for the message.

    Raises:
        UserError: two images would share a file.
    """
    paths = [Path(image) for image in images]
    often = Counter(path.stem for path in paths)
    names = [path.stem if often[path.stem] == 1 else _with_folder(path) for path in paths]
    image_of: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if image_of.setdefault(name, path) != path:
            raise UserError(f"{place}: {image_of[name]} and {path} would share {name}.bin; rename one of them")
    return names


def _with_folder(path: Path) -> str:
    return "_".join(part for part in (*path.parent.parts, path.stem) if part != path.anchor)


def result_files(folder: Path) -> dict[str, dict[int, Path]]:
    """Name of an image -> its result files by the number of the output.

    Raises:
        UserError: there are none.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in folder.glob("*.bin") if folder.is_dir() else ():
        if match := _BIN.fullmatch(path.name):
            found.setdefault(match["name"], {})[int(match["output"])] = path
    if not found:
        raise UserError(f"result_path {folder} holds no files like NAME_0.bin, one for each output of each image")
    return found


class ResultFiles:
    """The result files of a detector's data set, which bear the images' names or else `SOME_NAME_NUMBER`.

    One name that fits is enough to go by names alone: a number at the end of another image's name is none of its own.

    Args:
        folder: of the files.
        names: of the images, in the order of the data set.

    Raises:
        UserError: the folder holds no such files.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = list(names)
        self._files = result_files(folder)
        self._by_name = not self._files.keys().isdisjoint(self.names)
        self._of_number: dict[int, list[str]] = {}
        for name in self._files:
            if match := _NUMBERED.fullmatch(name):
                self._of_number.setdefault(int(match["number"]), []).append(name)

    def of(self, index: int, number: int, image: str) -> list[Path]:
        """The files of one image, by output.

        Args:
            index: position in the data set.
            number: what the image bears where files are numbered.
            image: for messages.

        Raises:
            UserError: there are none, one is missing, or two sets of them have the number.
        """
        name = self.names[index] if self._by_name else self._numbered(index, number, image)
        outputs = self._files.get(name, {})
        missing = next((output for output in range(max(outputs, default=0) + 1) if output not in outputs), None)
        if missing is not None:
            raise UserError(f"{self.folder} lacks {name}_{missing}.bin, the result of {image}")
        return [outputs[output] for output in sorted(outputs)]

    def _numbered(self, index: int, number: int, image: str) -> str:
        names = self._of_number.get(number, [])
        if len(names) > 1:
            raise UserError(
                f"{self.folder}: {names[0]}_0.bin and {names[1]}_0.bin both bear number {number}, that of {image}"
            )
        if not names:
            raise UserError(
                f"{self.folder} has no result files of {image}: neither {self.names[index]}_0.bin nor, by its number, "
                f"..._{number}_0.bin"
            )
        return names[0]


def read_bins(paths: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray] | None:
    """Files as float32 arrays of the shapes, in their order or, where the sizes tell, in another; None if none fits.

    Args:
        paths: one a shape.
        shapes: of one image, with a batch axis of 1.
    """
    if len(paths) != len(shapes):
        return None
    counts = [int(np.prod(shape)) for shape in shapes]
    for dtype in (np.float32, np.float16):
        sizes = [path.stat().st_size // np.dtype(dtype).itemsize for path in paths]
        if sorted(sizes) != sorted(counts) or any(path.stat().st_size % np.dtype(dtype).itemsize for path in paths):
            continue
        if sizes != counts and len(set(counts)) == len(counts):
            paths = [paths[sizes.index(count)] for count in counts]
        elif sizes != counts:
            continue
        arrays = [np.fromfile(path, dtype).astype(np.float32) for path in paths]
        return [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
    return None
