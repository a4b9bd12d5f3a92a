"""Emulates the float16 precision modes of Ascend on an exported file and measures the difference to float32.

Two precision modes are emulated, named as in MindSpore Lite (atc's names in brackets):

- preferred_fp32 (allow_fp32_to_fp16): inputs and outputs of convolutions and matrix products are float16, everything
  else is float32.
- enforce_fp16 (force_fp16): every value is float16.

The graph runs in onnxruntime on the CPU in float32, with a cast to float16 and back after each operator concerned. Sums
inside an operator are in float32, as in the matrix unit of the chip, and values above 65,504 become infinite. This
shows the effect of rounding only: kernels of a chip also use other summation orders and approximations.
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
    """The difference of a file's outputs between a precision mode and float32.

    Attributes:
        is_number: False if some value is NaN.
        candidates: number of boxes with a score above the threshold in both; 0 for a classifier.
        box_px: maximum corner difference of these boxes, clipped to the input, in px.
        score: maximum difference of a score (for a classifier: of a probability).
    """

    is_number: bool
    candidates: int
    box_px: float
    score: float

    @property
    def is_within(self) -> bool:
        """Whether the differences are within the tolerances, 1 px and 0.01."""
        return self.is_number and self.box_px <= BOX_TOLERANCE_PX and self.score <= SCORE_TOLERANCE

    def __str__(self) -> str:
        if not self.is_number:
            return "outputs contain NaN"
        boxes = f"{self.candidates} candidates, corners within {self.box_px:.1e} px, " if self.candidates else ""
        return f"{boxes}scores within {self.score:.1e}"


def compare_float16(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], threshold: float, size: tuple[int, int]
) -> Float16Report:
    """Compares the outputs in a precision mode with those in float32.

    Args:
        expected, actual: boxes (N, K, 4) xyxy px and scores (N, K, C), or only probabilities (N, C), in float32 and in
            the precision mode.
        threshold: a candidate has a score above it.
        size: (h, w) of the input.
    """
    if any(np.isnan(array).any() for array in actual):
        return Float16Report(False, 0, 0.0, 0.0)
    score = float(np.abs(expected[-1] - actual[-1]).max(initial=0))
    if len(expected) == 1:
        return Float16Report(True, 0, 0.0, score)
    limit = np.array([size[1], size[0]] * 2, np.float32)
    rows = ((expected[1] > threshold) & (actual[1] > threshold)).any(-1)
    corners = np.abs(np.clip(expected[0], 0, limit) - np.clip(actual[0], 0, limit))[rows]
    return Float16Report(True, int(rows.sum()), float(corners.max(initial=0)), score)


def run_in_float16(path: Path, arrays: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Runs a float32 ONNX file in each of `MODES`: mode -> outputs.

    Args:
        path: the file.
        arrays: its inputs, in order.
    """
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    results = {}
    for mode in MODES:
        options = onnxruntime.SessionOptions()
        # No warnings about rounded weights.
        options.log_severity_level = 3
        rounded = round_to_float16(model, mode).SerializeToString()
        session = onnxruntime.InferenceSession(rounded, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        results[mode] = session.run(None, dict(zip(names, arrays, strict=True)))
    return results


def round_to_float16(model: ModelProto, mode: str) -> ModelProto:
    """A copy of a float32 model with the rounding of a precision mode.

    Args:
        model: its types must be inferable, and it must have no control flow.
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
                # In enforce_fp16 the outputs of nodes are already rounded.
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
