"""Converts a float ONNX graph to int8, given the quantization grids of its activations.

Each tensor with a grid gets a QuantizeLinear and a DequantizeLinear, and weights become int8 with a DequantizeLinear
(the QDQ format). A runtime computes a convolution between such nodes in int8. The grids come from quantization-aware
training or from calibration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.errors import UserError
from msdet.quantization.fake_quant import MIN_RANGE, grid_limits

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# The first opset with per-channel DequantizeLinear.
OPSET = 13
# Operators that only move or select values: the output has the grid of the input.
_SHAPE_ONLY = ("Reshape", "Transpose", "MaxPool", "Squeeze", "Unsqueeze", "Flatten")
# Operators that are computed in int8 if all their inputs are int8.
_CARRIED = ("LeakyRelu", "Relu", "Add", "Concat")
_LARGEST_BIAS = 2**30


@dataclass(frozen=True)
class Grid:
    """Quantization parameters of uint8 codes 0 .. 255: value = scale * (code - zero_point)."""

    scale: float
    zero_point: int

    @classmethod
    def covering(cls, low: float, high: float) -> Grid:
        """The grid of the range low .. high, extended to include 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, MIN_RANGE) / 255
        return cls(scale, int(np.clip(np.floor(-low / scale + 0.5), 0, 255)))


@dataclass(frozen=True)
class WeightRule:
    """Symmetric quantization of weights to codes -levels .. levels, with per-channel scales or one scale."""

    per_channel: bool = True
    levels: int = 127

    def codes(self, weight: np.ndarray, least_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int8 codes of the shape of the weight, and float32 scales (O,) or ().

        Args:
            weight: float32 (O, ...).
            least_scale: (O,): minimum of each scale.
        """
        rows = np.abs(weight.reshape(len(weight), -1))
        greatest = rows.max(1) if self.per_channel else np.full(len(weight), rows.max())
        scale = np.maximum(greatest, MIN_RANGE / 2) / self.levels
        scale = np.maximum(scale, least_scale if self.per_channel else least_scale.max()).astype(np.float32)
        shape = (-1,) + (1,) * (weight.ndim - 1)
        codes = np.clip(np.rint(weight / scale.reshape(shape)), -self.levels, self.levels).astype(np.int8)
        return codes, scale if self.per_channel else scale[0]


class Graph:
    """An ONNX graph with indices of its nodes by input and output; create a new one after changing the graph."""

    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper

        self.proto: GraphProto = model.graph
        self.producer = {name: node for node in self.proto.node for name in node.output}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in self.proto.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in self.proto.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.proto.initializer}
        for node in self.proto.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def convolutions(self) -> list[NodeProto]:
        """All convolutions, in topological order."""
        return [node for node in self.proto.node if node.op_type == "Conv"]

    def before_a_convolution(self) -> set[str]:
        """Names of the tensors that some convolution depends on."""
        found: set[str] = set()
        waiting = [node.input[0] for node in self.convolutions()]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                node = self.producer.get(name)
                waiting += list(node.input) if node is not None else []
        return found - self.constants.keys()

    def remove(self, nodes: Iterable[NodeProto]) -> None:
        """Removes nodes, and constants that are unused then."""
        for node in nodes:
            self.proto.node.remove(node)
        read = {name for node in self.proto.node for name in node.input} | self.outputs
        for node in [n for n in self.proto.node if n.op_type == "Constant" and n.output[0] not in read]:
            self.proto.node.remove(node)
        for tensor in [tensor for tensor in self.proto.initializer if tensor.name not in read]:
            self.proto.initializer.remove(tensor)
        self._drop_inputs(read)

    def _drop_inputs(self, read: set[str]) -> None:
        # Older files list weights among the inputs.
        kept = {tensor.name for tensor in self.proto.initializer}
        for value in [v for v in self.proto.input if v.name not in read or v.name in kept]:
            self.proto.input.remove(value)

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Adds an initializer; returns its name."""
        from onnx import numpy_helper

        self.proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name


def raise_opset(model: ModelProto) -> ModelProto:
    """Converts a model to opset 13, unless it has a later one."""
    from onnx import version_converter

    if max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) >= OPSET:
        return model
    return version_converter.convert_version(model, OPSET)


def fold_batch_norm(model: ModelProto) -> int:
    """Folds batch norm into the preceding convolutions; returns the number of folded nodes.

    gamma (Conv(x, w) - mean) / sqrt(variance + eps) + beta is Conv(x, g w) + beta - g mean with
    g = gamma / sqrt(variance + eps).
    """
    graph = Graph(model)
    folded = []
    for node in graph.proto.node:
        conv = graph.producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or len(graph.consumers[conv.output[0]]) != 1:
            continue
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in node.input[1:5])
        eps = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        gain = gamma / np.sqrt(variance + eps)
        weight = graph.constants[conv.input[1]]
        shift = beta - gain * mean
        if len(conv.input) > 2:
            shift = shift + gain * graph.constants[conv.input[2]]
        shape = (-1,) + (1,) * (weight.ndim - 1)
        # Named after the output, because several convolutions may share a weight.
        name = node.output[0]
        new_weight = graph.add_constant(name + ".folded", (weight * gain.reshape(shape)).astype(np.float32))
        new_bias = graph.add_constant(name + ".shift", shift.astype(np.float32))
        conv.input[:] = [conv.input[0], new_weight, new_bias]
        conv.output[0] = node.output[0]
        folded.append(node)
    graph.remove(folded)
    return len(folded)


def extract_grids(model: ModelProto, grids: Sequence[tuple[float, int]], levels: int = 255) -> dict[str, Grid]:
    """Removes the clip operators that mark quantized tensors (see `mark_grids`); returns tensor name -> grid.

    Args:
        model: with batch norm folded; it is modified.
        grids: scale and zero point of every marker.
        levels: number of codes of a grid - 1.

    Raises:
        UserError: some markers are not in the graph.
    """
    graph = Graph(model)
    known = {tuple(np.float32(end) for end in grid_limits(*grid, levels)): Grid(*grid) for grid in grids}
    found: dict[str, Grid] = {}
    clips = []
    for node in graph.proto.node:
        inner = graph.producer.get(node.input[0]) if node.op_type == "Min" and len(node.input) == 2 else None
        if inner is None or inner.op_type != "Max" or len(inner.input) != 2:
            continue
        ends = [graph.constants.get(clip.input[1]) for clip in (inner, node)]
        if any(end is None or end.size != 1 for end in ends):
            continue
        grid = known.get(tuple(np.float32(end.reshape(())) for end in ends if end is not None))
        if grid is not None:
            clips.append((inner, node))
            found[inner.input[0]] = grid
    if len(clips) != len(grids):
        raise UserError(f"the graph has {len(clips)} of {len(grids)} quantized tensors: the export is not correct")
    for inner, node in clips:
        for consumer in graph.consumers.get(node.output[0], []):
            consumer.input[:] = [inner.input[0] if name == node.output[0] else name for name in consumer.input]
        # Of two consecutive clips, both keep their tensor name in `found`.
    graph.remove([clip for pair in clips for clip in pair])
    return found


def tensors_to_calibrate(model: ModelProto) -> list[str]:
    """Names of the tensors that need a grid: inputs of convolutions, outputs of convolutions that another one depends
    on, and tensors between them that are computed in int8.

    Args:
        model: with batch norm folded.
    """
    graph = Graph(model)
    region = graph.before_a_convolution()
    chosen = {node.input[0] for node in graph.convolutions()}
    for node in graph.proto.node:
        inputs = [name for name in node.input if name not in graph.constants]
        if not node.output or node.output[0] not in region:
            continue
        needs_grid = node.op_type == "Conv" and not _is_fused_with_relu(graph, node.output[0])
        in_int8 = all(name in chosen or _is_fused_with_relu(graph, name) for name in inputs)
        if needs_grid or (in_int8 and _is_int8_operator(node, len(inputs))):
            chosen.add(node.output[0])
    return [name for node in graph.proto.node for name in node.output if name in chosen] + sorted(
        chosen - graph.producer.keys()
    )


def _is_fused_with_relu(graph: Graph, name: str) -> bool:
    """Whether a tensor goes from a convolution to a ReLU only, which is fused into the convolution: the grid of the
    ReLU's output starts at 0, so quantizing to it is ReLU."""
    node, followers = graph.producer.get(name), graph.consumers.get(name, [])
    is_convolved = node is not None and node.op_type == "Conv"
    return is_convolved and len(followers) == 1 and followers[0].op_type == "Relu"


def _is_int8_operator(node: NodeProto, data_inputs: int) -> bool:
    """Whether a node can be computed in int8; sums and concatenations with a constant are computed in float."""
    if node.op_type in ("Add", "Concat"):
        return data_inputs == len(node.input)
    return node.op_type in (*_CARRIED, *_SHAPE_ONLY) and data_inputs == 1


def propagate_grids(model: ModelProto, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """Adds the grids of outputs of operators that only move values, which are those of their inputs."""
    graph = Graph(model)
    region = graph.before_a_convolution()
    result = dict(grids)
    for node in graph.proto.node:
        if not node.output or node.output[0] not in region:
            continue
        inputs = [name for name in node.input if name not in graph.constants]
        if node.op_type in _SHAPE_ONLY and inputs and inputs[0] in result:
            result[node.output[0]] = result[inputs[0]]
        elif node.op_type == "Concat" and node.output[0] not in grids and len(inputs) == len(node.input):
            own = {result[name] for name in inputs if name in result}
            if len(own) == 1 and all(name in result for name in inputs):
                result[node.output[0]] = own.pop()
    return result


def insert_grids(model: ModelProto, grids: Mapping[str, Grid], rule: WeightRule) -> None:
    """Inserts QuantizeLinear and DequantizeLinear after every tensor that has a grid, and quantizes the weights of the
    convolutions with such an input.

    Args:
        model: of opset 13 or later, with batch norm folded; it is modified.
        grids: tensor name -> grid.
        rule: quantization of the weights.
    """
    graph = Graph(model)
    for conv in graph.convolutions():
        if conv.input[0] in grids:
            _quantize_kernel(graph, conv, grids[conv.input[0]].scale, rule)
    graph.remove([])
    graph = Graph(model)
    pairs = {name: _pair(graph, name, grid) for name, grid in grids.items()}
    for name in grids:
        for consumer in graph.consumers.get(name, []):
            consumer.input[:] = [name + ".dequantized" if given == name else given for given in consumer.input]
    nodes = list(graph.proto.node)
    ordered = [node for name, pair in pairs.items() if name not in graph.producer for node in pair]
    for node in nodes:
        ordered.append(node)
        ordered += [new for name in node.output if name in pairs for new in pairs[name]]
    del graph.proto.node[:]
    graph.proto.node.extend(_constants_first(ordered))


def _constants_first(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Moves DequantizeLinear nodes of weights, which only read constants, to the front."""
    kernels = [node for node in nodes if node.name.endswith(".kernel")]
    return kernels + [node for node in nodes if not node.name.endswith(".kernel")]


def _pair(graph: Graph, name: str, grid: Grid) -> tuple[NodeProto, NodeProto]:
    from onnx import helper

    scale = graph.add_constant(name + ".scale", np.float32(grid.scale).reshape(()))
    zero = graph.add_constant(name + ".zero_point", np.uint8(grid.zero_point).reshape(()))
    return (
        helper.make_node("QuantizeLinear", [name, scale, zero], [name + ".codes"], name=name + ".quantize"),
        helper.make_node(
            "DequantizeLinear", [name + ".codes", scale, zero], [name + ".dequantized"], name=name + ".dequantize"
        ),
    )


def _quantize_kernel(graph: Graph, conv: NodeProto, input_scale: float, rule: WeightRule) -> None:
    """Replaces the weight by int8 with its scales, and the bias by int32 in units of input scale * weight scale."""
    from onnx import helper

    weight = graph.constants[conv.input[1]]
    bias = graph.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(weight))
    # The minimum scale lets the bias of a channel with vanishing weights fit into int32.
    codes, scale = rule.codes(weight, np.abs(bias) / (input_scale * _LARGEST_BIAS))
    name = conv.output[0] + ".weight"
    names = [graph.add_constant(name + ".int8", codes), graph.add_constant(name + ".scale", scale)]
    names.append(graph.add_constant(name + ".zero", np.zeros_like(scale, np.int8)))
    unit = (np.float32(input_scale) * scale).astype(np.float32)
    steps = np.rint(bias / unit.astype(np.float64)).astype(np.int32)
    bias_names = [graph.add_constant(name + ".bias.int32", steps), graph.add_constant(name + ".bias.scale", unit)]
    bias_names.append(graph.add_constant(name + ".bias.zero", np.zeros_like(unit, np.int32)))
    axis: dict[str, Any] = {"axis": 0} if rule.per_channel else {}
    for given, made in ((names, name + ".dequantized"), (bias_names, name + ".bias.dequantized")):
        graph.proto.node.append(helper.make_node("DequantizeLinear", given, [made], name=made + ".kernel", **axis))
    conv.input[:] = [conv.input[0], name + ".dequantized", name + ".bias.dequantized"]


def count_operators(path: Path) -> Counter[str]:
    """Operator -> number of nodes in the graph that onnxruntime has optimised for this processor.

    `QLinearConv` are int8 convolutions, `Conv` and `FusedConv` float ones.
    """
    import tempfile

    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    return Counter(node.op_type for node in model.graph.node)
