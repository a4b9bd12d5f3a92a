"""The number of each image in the result files of an external program, from the lists that the old zoo writes with the
inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.errors import UserError

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset
    from msdet.data.transforms.resize import Geometry


class ImageNumbering:
    """The number of each image in `..._NUMBER_K.bin`, and a check that its size is that of the image that was run.

    Args:
        cfg: its keys `image_id` and `image_shape`, which not every model has, name .npy files with one entry per image:
            its id in the annotation file, and its two sides in px, in either order. Without `image_id` the number is
            the position in the dataset.
        dataset: the validation images.

    Raises:
        UserError: a file is missing, invalid or incomplete.
    """

    def __init__(self, cfg: Config, dataset: DetectionDataset) -> None:
        self._id_file, self._shape_file = (Path(getattr(cfg, name, "")) for name in ("image_id", "image_shape"))
        self._numbers = list(range(len(dataset)))
        if getattr(cfg, "image_id", ""):
            number_of = {str(value): number for number, value in enumerate(_load(self._id_file, 1).tolist())}
            missing = next((s.image_id for s in dataset.samples if str(s.image_id) not in number_of), None)
            if missing is not None:
                raise UserError(f"{self._id_file} does not contain image {missing} of {dataset.ann_file}")
            self._numbers = [number_of[str(sample.image_id)] for sample in dataset.samples]
        self._sides = _load(self._shape_file, 2) if getattr(cfg, "image_shape", "") else None

    def number_of(self, index: int) -> int:
        """The number of the image at a position of the dataset."""
        return self._numbers[index]

    def check_size(self, index: int, geometry: Geometry, name: str) -> None:
        """Raises UserError if the image that was run had another size.

        Args:
            index: position in the dataset.
            geometry: geometry of the image in the dataset.
            name: image name, for the message.
        """
        if self._sides is None:
            return
        number = self._numbers[index]
        if number >= len(self._sides):
            raise UserError(f"{self._shape_file} has {len(self._sides)} entries, none for {name}, number {number}")
        if sorted(self._sides[number].tolist()) != sorted((geometry.orig_w, geometry.orig_h)):
            sides = " x ".join(str(side) for side in self._sides[number].tolist())
            raise UserError(
                f"{name} has {geometry.orig_w} x {geometry.orig_h} px, but number {number} of {self._shape_file} has "
                f"{sides}: the results are of other images, or in another order (set image_id)"
            )


def _load(path: Path, columns: int) -> np.ndarray:
    """Loads integers (n,) or (n, columns) from an .npy file, without pickle."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a numpy array: {error}") from error
    is_whole = np.issubdtype(values.dtype, np.number) and np.array_equal(values, np.floor(values))
    if not is_whole or values.size % columns:
        raise UserError(f"{path} is {values.dtype} {values.shape}; it needs {columns} integers per image")
    values = values.astype(np.int64)
    return values.reshape(-1) if columns == 1 else values.reshape(-1, columns)
