"""Writes int8 ONNX files of a quantization-aware network, or of a float network by calibration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mindspore import nn

from msdet.config.sections.quantization import QuantKeys
from msdet.export.int8.graph import (
    Grid,
    WeightRule,
    count_operators,
    extract_grids,
    fold_batch_norm,
    insert_grids,
    propagate_grids,
    raise_opset,
    tensors_to_calibrate,
)
from msdet.export.int8.post_training import calibrate_grids, calibration_arrays
from msdet.export.verify import Int8Report
from msdet.quantization.quantize import mark_grids

if TYPE_CHECKING:
    from onnx import ModelProto

    from msdet.export.export_network import ExportNetwork
    from msdet.export.spec import ExportSpec

log = logging.getLogger(__name__)


def write_int8_onnx(
    loaded: ExportNetwork, spec: ExportSpec, kind: str, path: Path, write: Callable[[nn.Cell, Path], None]
) -> Int8Report:
    """Writes an int8 ONNX file.

    Args:
        loaded: the network; fake-quantized for kind "int8", float for kind "ptq".
        spec: what the file contains.
        kind: "int8" or "ptq".
        path: the file.
        write: function that writes a network as float ONNX to a path, with the parts that the spec adds.
    """
    import onnx

    cfg = loaded.cfg
    grids: dict[str, Grid]
    if kind == "int8":
        assert isinstance(cfg, QuantKeys), "other models have no quantization-aware training"
        network = loaded.copy_network()
        marks = mark_grids(network)
        write(network, path)
        model = _folded(path)
        grids = extract_grids(model, marks)
        rule = WeightRule(cfg.per_channel[0], 2 ** (cfg.quant_bits[0] - 1) - 1)
    else:
        write(loaded.network, path)
        model = _folded(path)
        onnx.save(model, str(path))
        grids = calibrate_grids(path, tensors_to_calibrate(model), calibration_arrays(cfg, loaded.recipe, spec))
        rule = WeightRule()
    insert_grids(model, propagate_grids(model, grids), rule)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return _report(kind, model, path)


def _folded(path: Path) -> ModelProto:
    import onnx

    model = raise_opset(onnx.load(str(path)))
    fold_batch_norm(model)
    return model


def _report(kind: str, model: ModelProto, path: Path) -> Int8Report:
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    report = Int8Report(kind, convolutions, count_operators(path)["QLinearConv"])
    log.info("onnxruntime computes %d of %d convolutions in int8", report.int8_convolutions, convolutions)
    return report
