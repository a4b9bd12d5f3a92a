"""Writes COCO result files image by image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.detection_table import TableBuilder
from msdet.files import atomic_path
from msdet.ops.boxes import xyxy_to_xywh
from msdet.ops.postprocess import Detections

# 1e-4 px is the spacing of float32 at a coordinate of 1000. Scores are written with all digits, so that their order and
# ties are the same in memory and in the file.
_RECORD = '{"image_id": %s, "category_id": %s, "bbox": [%.4f, %.4f, %.4f, %.4f], "score": %s}'
_DIGITS = 4


class _Discard(Exception):
    """Makes `atomic_path` discard the file."""


class DetectionWriter(AbstractContextManager):
    """Streams detections image by image to a COCO result file, and keeps them as columns.

    The file appears under its name when the `with` block ends without an exception.

        with DetectionWriter("predictions.json", dataset.category_ids) as writer:
            writer.write(139, detections)

    Args:
        path: the JSON file to write; missing folders are created. None writes no file.
        category_ids: category id of each label, as in the annotation file.

    Attributes:
        images, detections: numbers of images and detections written.
        builder: the detections, rounded as in the file.
    """

    def __init__(self, path: Path | str | None, category_ids: Sequence[int | str]) -> None:
        self.path = None if path is None else Path(path)
        self.images = 0
        self.detections = 0
        self.builder = TableBuilder("detections" if path is None else str(path))
        self._category_ids = [_plain(category) for category in category_ids]
        self._categories = [json.dumps(category) for category in self._category_ids]
        self._is_open = False
        self._stack = ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> DetectionWriter:
        self._is_open = True
        if self.path is None:
            return self
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder: give the name of a file for the detections")
        with self._reporting(), ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._file.write("[")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        if self._file is None:
            return
        if error is None:
            with self._reporting(), self._stack:
                self._file.write("\n]\n")
        else:
            # The clean-up must not see the error of the block: it would report it as a failure to write the file.
            with suppress(_Discard), self._stack:
                raise _Discard

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turns an OSError into a message that names the file."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def write(self, image_id: int | str, detections: Detections) -> None:
        """Appends the detections of one image.

        Args:
            image_id: as in the annotation file.
            detections: boxes in px of the original image.

        Raises:
            ValueError: outside a `with` block, a label without a category id, or a value that is not finite.
            UserError: the file cannot be written.
        """
        if not self._is_open:
            raise ValueError("a DetectionWriter must be used inside its `with` block")
        self.images += 1
        if not len(detections):
            return
        boxes, scores = np.asarray(detections.boxes, np.float64), np.asarray(detections.scores, np.float32)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"image {image_id}: a detection's box or score is not finite")
        labels = np.asarray(detections.labels)
        if labels.min() < 0 or labels.max() >= len(self._categories):
            raise ValueError(f"image {image_id}: a label is outside 0..{len(self._categories) - 1}")
        xywh = xyxy_to_xywh(boxes)
        if self._file is not None:
            image = json.dumps(_plain(image_id))
            lines = [
                # str of a float32 is the shortest text that parses to the same float32
                _RECORD % (image, self._categories[label], *box, score)
                for box, label, score in zip(xywh.tolist(), labels.tolist(), map(str, scores), strict=True)
            ]
            with self._reporting():
                self._file.write((",\n" if self.detections else "\n") + ",\n".join(lines))
        ids = [self._category_ids[label] for label in labels.tolist()]
        self.builder.add(_plain(image_id), ids, np.round(xywh, _DIGITS), scores)
        self.detections += len(ids)


def _plain(identifier: Any) -> Any:
    """Converts a numpy integer to int, for JSON."""
    return int(identifier) if isinstance(identifier, np.integer) else identifier
