"""The number of each image among the result files of another program, as the lists say that the old zoo's export of
inputs left beside them."""

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
    """Which number an image bears in `..._NUMBER_K.bin`, and whether it is the image that was run.

    Args:
        cfg: its keys `image_id` and `image_shape`, which not every model has, name .npy files with an entry an image:
            its id in the annotation file, and its two sides in px, in either order. Without the first an image bears
            its place in the data set.
        dataset: the validation images.

    Raises:
        UserError: a file is missing or no such list, or it lacks an image.
    """

    def __init__(self, cfg: Config, dataset: DetectionDataset) -> None:
        self._id_file, self._shape_file = (Path(getattr(cfg, name, "")) for name in ("image_id", "image_shape"))
        self._numbers = list(range(len(dataset)))
        if getattr(cfg, "image_id", ""):
            number_of = {str(value): number for number, value in enumerate(_load(self._id_file, 1).tolist())}
            missing = next((s.image_id for s in dataset.samples if str(s.image_id) not in number_of), None)
            if missing is not None:
                raise UserError(f"{self._id_file} lacks image {missing} of {dataset.ann_file}")
            self._numbers = [number_of[str(sample.image_id)] for sample in dataset.samples]
        self._sides = _load(self._shape_file, 2) if getattr(cfg, "image_shape", "") else None

    def of(self, index: int) -> int:
        """The number of the image at a position of the data set."""
        return self._numbers[index]

    def check_size(self, index: int, geometry: Geometry, name: str) -> None:
        """Raises UserError if the image that was run had another size.

        Args:
            index: position in the data set.
            geometry: of the image as it is here.
            name: of the image, for the message.
        """
        if self._sides is None:
            return
        number = self._numbers[index]
        if number >= len(self._sides):
            raise UserError(f"{self._shape_file} has {len(self._sides)} entries, none of {name}, number {number}")
        if sorted(self._sides[number].tolist()) != sorted((geometry.orig_w, geometry.orig_h)):
            told = " x ".join(str(side) for side in self._sides[number].tolist())
            raise UserError(
                f"{name} has {geometry.orig_w} x {geometry.orig_h} px, but by {self._shape_file} number {number} had "
                f"{told}: the results are of other images, or in another order (image_id tells it)"
            )


def _load(path: Path, columns: int) -> np.ndarray:
    """An array of whole numbers (n,) or (n, columns); nothing that the file says is executed."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no array of numpy: {error}") from error
    is_whole = np.issubdtype(values.dtype, np.number) and np.array_equal(values, np.floor(values))
    if not is_whole or values.size % columns:
        raise UserError(f"{path} holds {values.dtype} {values.shape}; whole numbers, {columns} an image, are needed")
    values = values.astype(np.int64)
    return values.reshape(-1) if columns == 1 else values.reshape(-1, columns)
