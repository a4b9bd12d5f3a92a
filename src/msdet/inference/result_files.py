"""Input and result files of an external program: `NAME.bin`, and `NAME_K.bin` for output K of an image."""

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
    """The NAME of each image in `NAME.bin` and `NAME_K.bin`: its stem, or FOLDER_STEM if images share a stem.

    Args:
        images: paths relative to `place`, or absolute paths.
        place: folder of the dataset, for the message.

    Raises:
        UserError: two images would share a file.
    """
    paths = [Path(image) for image in images]
    counts = Counter(path.stem for path in paths)
    names = [path.stem if counts[path.stem] == 1 else _with_folder(path) for path in paths]
    image_of: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if image_of.setdefault(name, path) != path:
            raise UserError(f"{place}: {image_of[name]} and {path} would share {name}.bin; rename one of them")
    return names


def _with_folder(path: Path) -> str:
    return "_".join(part for part in (*path.parent.parts, path.stem) if part != path.anchor)


def result_files(folder: Path) -> dict[str, dict[int, Path]]:
    """Image name -> output number -> result file.

    Raises:
        UserError: the folder has no result files.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in folder.glob("*.bin") if folder.is_dir() else ():
        if match := _BIN.fullmatch(path.name):
            found.setdefault(match["name"], {})[int(match["output"])] = path
    if not found:
        raise UserError(f"result_path {folder} has no files NAME_0.bin, NAME_1.bin, ..., one per output of each image")
    return found


class ResultFiles:
    """The result files of a detection dataset, named by image (`NAME_K.bin`) or by number (`ANY_NUMBER_K.bin`).

    If a single image name matches, all files are taken as named by image: names may end with a number too.

    Args:
        folder: folder of the files.
        names: names of the images, in the order of the dataset.

    Raises:
        UserError: the folder has no result files.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = list(names)
        self._files = result_files(folder)
        self._by_name = not self._files.keys().isdisjoint(self.names)
        self._names_by_number: dict[int, list[str]] = {}
        for name in self._files:
            if match := _NUMBERED.fullmatch(name):
                self._names_by_number.setdefault(int(match["number"]), []).append(name)

    def paths_of(self, index: int, number: int, image: str) -> list[Path]:
        """The files of one image, in the order of the outputs.

        Args:
            index: position in the dataset.
            number: number of the image, for files named by number.
            image: image name for messages.

        Raises:
            UserError: a file is missing, or the number is ambiguous.
        """
        name = self.names[index] if self._by_name else self._numbered(index, number, image)
        outputs = self._files.get(name, {})
        missing = next((output for output in range(max(outputs, default=0) + 1) if output not in outputs), None)
        if missing is not None:
            raise UserError(f"{self.folder} has no {name}_{missing}.bin, the result of {image}")
        return [outputs[output] for output in sorted(outputs)]

    def _numbered(self, index: int, number: int, image: str) -> str:
        names = self._names_by_number.get(number, [])
        if len(names) > 1:
            raise UserError(
                f"{self.folder}: {names[0]}_0.bin and {names[1]}_0.bin both have number {number}, that of {image}"
            )
        if not names:
            raise UserError(
                f"{self.folder} has no result files of {image}: neither {self.names[index]}_0.bin nor, by number, "
                f"..._{number}_0.bin"
            )
        return names[0]


def read_bins(paths: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray] | None:
    """Reads files as float32 arrays of the given shapes; None if their sizes do not match.

    If the shapes have distinct sizes, the files may be in any order; else they must be in the order of the shapes.

    Args:
        paths: one file per shape, float32 or float16.
        shapes: shapes for one image, with a batch axis of 1.
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
