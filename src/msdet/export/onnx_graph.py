"""Post-processing of ONNX files written by MindSpore: names, LeakyRelu, Round."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def finalize_onnx(path: Path, input_names: list[str], output_names: list[str]) -> None:
    """Names inputs and outputs, fuses max(x, slope * x) into LeakyRelu, fixes Round, and validates the file.

    In onnxruntime on CPU YOLOv3 is a sixth faster with LeakyRelu than with max, and int8 quantizers support it.

    Raises:
        onnx.checker.ValidationError: the file is not valid ONNX.
    """
    import onnx

    model = onnx.load(str(path))
    fuse_leaky_relu(model)
    for node in model.graph.node:
        if node.op_type == "Round":
            # MindSpore adds an input with the number of decimals, which is not part of ONNX.
            del node.input[1:]
    _rename(model, input_names, output_names)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def fuse_leaky_relu(model: ModelProto) -> int:
    """Replaces Max(x, Mul(x, slope)) with 0 < slope < 1 by LeakyRelu; returns the number of replacements."""
    from onnx import helper

    graph = model.graph
    constants = _constants(graph)
    producer = {name: node for node in graph.node for name in node.output}
    uses = [name for node in graph.node for name in node.input] + [output.name for output in graph.output]
    replaced: list[tuple[NodeProto, NodeProto, NodeProto]] = []
    for node in graph.node:
        if node.op_type != "Max" or len(node.input) != 2:
            continue
        for x, scaled in (tuple(node.input), tuple(node.input)[::-1]):
            product = producer.get(scaled)
            slope = _slope(product, x, constants)
            if product is not None and slope is not None and uses.count(scaled) == 1:
                leaky = helper.make_node("LeakyRelu", [x], list(node.output), name=node.name, alpha=slope)
                replaced.append((node, product, leaky))
                break
    for node, product, leaky in replaced:
        place = list(graph.node).index(node)
        graph.node.remove(node)
        graph.node.insert(place, leaky)
        graph.node.remove(product)
    _drop_unused_constants(graph)
    return len(replaced)


def _slope(product: NodeProto | None, x: str, constants: dict[str, np.ndarray]) -> float | None:
    """The scalar by which a Mul node multiplies x, if it is between 0 and 1; else None."""
    if product is None or product.op_type != "Mul" or x not in product.input:
        return None
    factor = constants.get(next((name for name in product.input if name != x), ""))
    if factor is None or factor.size != 1 or not 0 < float(factor.reshape(())) < 1:
        return None
    return float(factor.reshape(()))


def _constants(graph: GraphProto) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _drop_unused_constants(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _rename(model: ModelProto, input_names: list[str], output_names: list[str]) -> None:
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    new = dict(zip([value.name for value in inputs], input_names, strict=True))
    new |= dict(zip([value.name for value in graph.output], output_names, strict=True))
    for value in [*inputs, *graph.output, *graph.value_info]:
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
