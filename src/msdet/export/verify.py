"""Compares the outputs of an exported file with those of its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msdet.errors import UserError

BOX_TOLERANCE_PX = 0.05
SCORE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Int8Report:
    """How an int8 ONNX file is computed.

    Attributes:
        kind: "int8" (quantization-aware training) or "ptq" (post-training quantization).
        convolutions: number of convolutions.
        int8_convolutions: number of those that onnxruntime computes in int8 on this processor.
    """

    kind: str
    convolutions: int
    int8_convolutions: int


@dataclass(frozen=True)
class VerificationReport:
    """The differences between an exported file and its checkpoint.

    Attributes:
        outputs: relative error ||file - checkpoint|| / ||checkpoint|| of each output.
        boxes: number of candidates above the score threshold that were compared one to one.
        box_px: maximum corner difference of these candidates, clipped to the input, in px.
        score: maximum difference of a score.
        at_threshold: number of candidates of only one of both, with scores within the tolerance of the threshold.
        int8: for int8 ONNX files, whose boxes are not compared.
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


def compare_outputs(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: float
) -> tuple[float, ...]:
    """Relative errors of the outputs; a tolerance of 0 requires bit-identical outputs.

    Raises:
        UserError: different number or shapes of outputs, values that are not finite, or an error above the tolerance.
    """
    if [array.shape for array in expected] != [array.shape for array in actual]:
        raise UserError(
            f"the exported file gives {[a.shape for a in actual]}, the checkpoint {[a.shape for a in expected]}: "
            "it was not kept"
        )
    errors = []
    for index, (mine, other) in enumerate(zip(expected, actual, strict=True)):
        if not np.isfinite(other).all() or not np.isfinite(mine).all():
            raise UserError(f"output {index} is not finite: the checkpoint is damaged or its training has diverged")
        if tolerance == 0 and not np.array_equal(mine, other):
            raise UserError(f"output {index} of the exported file differs from the checkpoint: it was not kept")
        error = float(np.linalg.norm(mine.astype(np.float64) - other) / max(float(np.linalg.norm(mine)), 1e-12))
        if error > tolerance:
            raise UserError(
                f"output {index} of the exported file differs from the checkpoint by {error:.1e} (relative), "
                f"more than {tolerance:.0e}: it was not kept"
            )
        errors.append(error)
    return tuple(errors)


def compare_boxes(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], threshold: float, size: tuple[int, int]
) -> tuple[int, float, float, int]:
    """Compares the candidates of checkpoint and exported file one to one, by their position in the arrays.

    Args:
        expected, actual: boxes (N, K, 4) xyxy px and scores (N, K, C) of the checkpoint and of the exported file.
        threshold: a candidate has a score above it.
        size: (h, w) of the input; boxes are clipped to it.

    Returns:
        number of compared candidates, maximum corner difference in px, maximum score difference, and number of
        candidates of only one of both because their score is at the threshold.

    Raises:
        UserError: a candidate is missing in one of both, or differs by more than 0.05 px or 0.001.
    """
    (boxes, scores), (other_boxes, other_scores) = expected, actual
    limit = np.array([size[1], size[0]] * 2, np.float32)
    boxes, other_boxes = np.clip(boxes, 0, limit), np.clip(other_boxes, 0, limit)
    above, other_above = scores > threshold, other_scores > threshold
    alone = above != other_above
    if (alone & (np.abs(scores - threshold) > SCORE_TOLERANCE)).any():
        raise UserError("the exported file and the checkpoint detect different objects: it was not kept")
    both = above & other_above
    score = float(np.abs(scores - other_scores)[both].max(initial=0))
    rows = both.any(-1)
    corner = float(np.abs(boxes - other_boxes)[rows].max(initial=0))
    if corner > BOX_TOLERANCE_PX or score > SCORE_TOLERANCE:
        raise UserError(
            f"boxes of the exported file differ from the checkpoint's by {corner:.2g} px, scores by {score:.2g}, "
            f"more than {BOX_TOLERANCE_PX} px or {SCORE_TOLERANCE}: it was not kept"
        )
    return int(both.sum()), corner, score, int(alone.sum())
