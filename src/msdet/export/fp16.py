"""What float16 costs an exported file: its graph computed once more with values rounded as an Ascend rounds them.

Two precision modes are emulated, by the names that MindSpore Lite gives them (atc's in brackets):

- preferred_fp32 (allow_fp32_to_fp16): convolutions and matrix products take and give float16, all else is float32.
- enforce_fp16 (force_fp16): every value is float16.

The graph runs in onnxruntime on the CPU, as float32 with a cast to float16 and back behind each operator concerned:
what is summed inside an operator is summed in float32, as in the matrix unit of the chip, and what exceeds 65,504
becomes infinite. It says what rounding does, not what a chip does: its kernels choose other orders and approximations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

MODES = ("preferred_fp32", "enforce_fp16")
BOX_TOLERANCE_PX = 1.0
SCORE_TOLERANCE = 0.01
_MATRIX_OPERATORS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}


@dataclass(frozen=True)
class Float16Report:
    """What a precision mode does to the results of a file, against its own float32.

    Attributes:
        is_number: False: some value is not a number.
        candidates: boxes with a score above the threshold in both; 0 for a classifier.
        box_px: largest difference of a corner of theirs, in px, after cutting to the input.
        score: largest difference of a score (of a classifier: of a probability).
    """

    is_number: bool
    candidates: int
    box_px: float
    score: float

    @property
    def is_within(self) -> bool:
        """Whether it is within the tolerances, 1 px and 0.01."""
        return self.is_number and self.box_px <= BOX_TOLERANCE_PX and self.score <= SCORE_TOLERANCE

    def __str__(self) -> str:
        if not self.is_number:
            return "results that are no numbers"
        boxes = f"{self.candidates} candidates, corners within {self.box_px:.1e} px, " if self.candidates else ""
        return f"{boxes}scores within {self.score:.1e}"


def compare_float16(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], threshold: float, size: tuple[int, int]
) -> Float16Report:
    """Holds results in a precision mode against those in float32.

    Args:
        ours, theirs: boxes (N, K, 4) xyxy px and scores (N, K, C), or probabilities (N, C) alone, in float32 and in the
            mode.
        threshold: scores above it make a candidate.
        size: (h, w) of the input.
    """
    if any(np.isnan(array).any() for array in theirs):
        return Float16Report(False, 0, 0.0, 0.0)
    score = float(np.abs(ours[-1] - theirs[-1]).max(initial=0))
    if len(ours) == 1:
        return Float16Report(True, 0, 0.0, score)
    limit = np.array([size[1], size[0]] * 2, np.float32)
    rows = ((ours[1] > threshold) & (theirs[1] > threshold)).any(-1)
    corners = np.abs(np.clip(ours[0], 0, limit) - np.clip(theirs[0], 0, limit))[rows]
    return Float16Report(True, int(rows.sum()), float(corners.max(initial=0)), score)


def run_in_float16(path: Path, arrays: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """What a float32 ONNX file gives in each of `MODES`, for inputs in the order of the file's."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    results = {}
    for mode in MODES:
        options = onnxruntime.SessionOptions()
        # Weights that are rounded need not be reported.
        options.log_severity_level = 3
        rounded = round_to_float16(model, mode).SerializeToString()
        session = onnxruntime.InferenceSession(rounded, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        results[mode] = session.run(None, dict(zip(names, arrays, strict=True)))
    return results


def round_to_float16(model: ModelProto, mode: str) -> ModelProto:
    """A copy of a float32 model that rounds as a precision mode does.

    Args:
        model: whose types can be inferred; without control flow.
        mode: one of `MODES`.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    floats = _float_values(graph)
    is_whole = mode == "enforce_fp16"
    given = {value.name for value in (*graph.input, *graph.initializer)}
    nodes: list[NodeProto] = []
    rounded: dict[str, str] = {}
    for node in graph.node:
        if is_whole or node.op_type in _MATRIX_OPERATORS:
            for i, name in enumerate(node.input):
                # Where every value is rounded, what nodes give is so already.
                if name in floats and (name in given or not is_whole):
                    if name not in rounded:
                        rounded[name] = f"{name}/half"
                        nodes.extend(_casts(name, rounded[name]))
                    node.input[i] = rounded[name]
            nodes.append(node)
            for i, name in enumerate(node.output):
                if name in floats:
                    node.output[i] = f"{name}/exact"
                    nodes.extend(_casts(node.output[i], name))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model


def _float_values(graph: GraphProto) -> set[str]:
    from onnx import TensorProto

    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _casts(name: str, to: str) -> list[NodeProto]:
    from onnx import TensorProto, helper

    half = f"{to}/float16"
    return [
        helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [to], to=TensorProto.FLOAT),
    ]
