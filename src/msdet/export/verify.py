"""An exported file, loaded again and held against the checkpoint it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msdet.errors import UserError

BOX_TOLERANCE_PX = 0.05
SCORE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Int8Report:
    """What is told of an int8 ONNX file.

    Attributes:
        kind: "int8" (trained) or "ptq".
        convolutions: in the file.
        int8_convolutions: of them, computed with integers by onnxruntime on this processor.
    """

    kind: str
    convolutions: int
    int8_convolutions: int


@dataclass(frozen=True)
class VerificationReport:
    """How far an exported file is from its checkpoint.

    Attributes:
        outputs: relative error ||file - checkpoint|| / ||checkpoint|| of each output.
        boxes: candidates above the score threshold that were compared one to one.
        box_px: largest difference of a corner of theirs, in px, after cutting to the input.
        score: largest difference of a score.
        at_threshold: candidates that only one side has, with scores within the tolerance of the threshold.
        int8: of an int8 ONNX file, how it is computed; such a file's boxes are not compared one to one.
    """

    outputs: tuple[float, ...]
    boxes: int = 0
    box_px: float = 0.0
    score: float = 0.0
    at_threshold: int = 0
    int8: Int8Report | None = None

    def __str__(self) -> str:
        errors = ", ".join(f"{error:.1e}" for error in self.outputs)
        text = f"relative error of the outputs {errors}"
        if self.int8:
            text += f"; {self.int8.int8_convolutions} of {self.int8.convolutions} convolutions in int8"
        if not self.boxes:
            return text
        return (
            f"{text}; {self.boxes} candidates one to one, corners within {self.box_px:.1e} px, scores within "
            f"{self.score:.1e}, {self.at_threshold} at the threshold"
        )


def compare_outputs(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], tolerance: float) -> tuple[float, ...]:
    """Relative errors of the outputs; a tolerance of 0 asks for equal bits.

    Raises:
        UserError: another number of outputs, another shape, a value that is not finite, or too large an error.
    """
    if [array.shape for array in ours] != [array.shape for array in theirs]:
        raise UserError(
            f"the exported file gives {[a.shape for a in theirs]}, the checkpoint {[a.shape for a in ours]}: "
            "it was not kept"
        )
    errors = []
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if not np.isfinite(other).all() or not np.isfinite(mine).all():
            raise UserError(f"output {index} is not finite: the checkpoint is damaged or its training has diverged")
        if tolerance == 0 and not np.array_equal(mine, other):
            raise UserError(f"output {index} of the exported file differs from the checkpoint: it was not kept")
        error = float(np.linalg.norm(mine.astype(np.float64) - other) / max(float(np.linalg.norm(mine)), 1e-12))
        if error > tolerance:
            raise UserError(
                f"output {index} of the exported file differs from the checkpoint by {error:.1e} (relative), "
                f"{tolerance:.0e} are allowed: it was not kept"
            )
        errors.append(error)
    return tuple(errors)


def compare_boxes(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], threshold: float, size: tuple[int, int]
) -> tuple[int, float, float, int]:
    """Holds the candidates of both sides against each other, one to one by their place.

    Args:
        ours, theirs: boxes (N, K, 4) xyxy px and scores (N, K, C) of the checkpoint and of the exported file.
        threshold: scores above it make a candidate.
        size: (h, w) of the input; boxes are cut to it, since nobody sees what lies outside.

    Returns:
        number of candidates compared, largest difference of a corner in px, of a score, and the number of candidates
        that one side alone has because their score lies at the threshold.

    Raises:
        UserError: a candidate of one side is missing on the other, or differs by more than 0.05 px or 0.001.
    """
    (boxes, scores), (other_boxes, other_scores) = ours, theirs
    limit = np.array([size[1], size[0]] * 2, np.float32)
    boxes, other_boxes = np.clip(boxes, 0, limit), np.clip(other_boxes, 0, limit)
    above, other_above = scores > threshold, other_scores > threshold
    alone = above != other_above
    if (alone & (np.abs(scores - threshold) > SCORE_TOLERANCE)).any():
        raise UserError("the exported file and the checkpoint find different objects: it was not kept")
    both = above & other_above
    score = float(np.abs(scores - other_scores)[both].max(initial=0))
    rows = both.any(-1)
    corner = float(np.abs(boxes - other_boxes)[rows].max(initial=0))
    if corner > BOX_TOLERANCE_PX or score > SCORE_TOLERANCE:
        raise UserError(
            f"boxes of the exported file differ from the checkpoint's by {corner:.2g} px, scores by {score:.2g}: "
            f"{BOX_TOLERANCE_PX} px and {SCORE_TOLERANCE} are allowed. It was not kept"
        )
    return int(both.sum()), corner, score, int(alone.sum())
