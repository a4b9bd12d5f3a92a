"""Post-processing of ONNX files: LeakyRelu."""

from __future__ import annotations

from msdet.export.onnx_graph import fuse_leaky_relu


def test_leaky_relu_becomes_one_operator(exports):
    import onnx

    model = onnx.load(str(exports[1]))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("LeakyRelu") == sum(kind == "BatchNormalization" for kind in kinds)
    assert "Max" not in kinds
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["boxes", "scores"]


def test_only_the_leaky_form_is_replaced():
    """max(x, c * x) with c outside 0..1, of another tensor, or whose product is used elsewhere, stays as it is."""
    from onnx import TensorProto, helper

    def model(slope, other="x", extra=False):
        nodes = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Max", [other, "m"], ["y"])]
        nodes += [helper.make_node("Neg", ["m"], ["z"])] if extra else []
        tensors = [helper.make_tensor("c", TensorProto.FLOAT, [], [slope])]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("x", "w", "y", "z")]
        outputs = values[2:] if extra else values[2:3]
        return helper.make_model(helper.make_graph(nodes, "g", values[:2], outputs, tensors))

    assert fuse_leaky_relu(model(0.1)) == 1
    assert fuse_leaky_relu(model(2.0)) == 0
    assert fuse_leaky_relu(model(0.1, other="w")) == 0
    assert fuse_leaky_relu(model(0.1, extra=True)) == 0
