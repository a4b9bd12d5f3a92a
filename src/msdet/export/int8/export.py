"""The int8 forms of a network: which one export.py is to write, and how it is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindspore import nn

from msdet.checkpoints.weights_file import fill_network, tensors_of
from msdet.errors import UsageError
from msdet.export.int8.graph import (
    Grid,
    WeightRule,
    count_operators,
    fold_batch_norm,
    insert_grids,
    raise_opset,
    spread_grids,
    take_markers,
    tensors_to_calibrate,
)
from msdet.export.int8.post_training import calibrated_grids, calibration_arrays
from msdet.export.verify import Int8Report
from msdet.quantization.quantize import mark_grids, round_plainly, store_int8

if TYPE_CHECKING:
    from onnx import ModelProto

    from msdet.config import Config
    from msdet.export.export import Prepared
    from msdet.export.form import Form

log = logging.getLogger(__name__)

# An int8 kernel sums exactly and rounds once where the fake-quantized network rounds at every float operation, so that
# a value at the border of two codes may fall to either, and what is computed from it may, too: behind dozens of layers
# the two differ as two roundings of one network do. Scores of a few objects were seen to differ by 0.07 and 0.11 where
# average precision differed by 0.002; a lost scale or a wrong kernel makes it about 1.
_ONNX_TOLERANCE = 0.25
_MINDIR_TOLERANCE = 1e-5
# Rounding itself: a network that was never trained for it is only kept from being nonsense. `compare` tells its score.
_PTQ_TOLERANCE = 0.5


def kind_of(cfg: Config) -> str:
    """What `quantize` asks for, after the checkpoint's card: "float", "fake", "int8" or "ptq".

    Raises:
        UsageError: the checkpoint or the format does not fit.
    """
    asked, trained, where = cfg.quantize, cfg.quantization_aware, cfg.where("quantize")
    if asked == "auto":
        asked = ("int8" if cfg.file_format == "ONNX" else "fake") if trained else "float"
    if asked in ("fake", "int8") and not trained:
        raise UsageError(
            f"{where} is {asked}, but the checkpoint is a float network; train it with quantization_aware, or take ptq"
        )
    if asked == "ptq" and trained:
        raise UsageError(f"{where} is ptq, but the checkpoint was trained for int8 and knows its ranges: leave it out")
    if asked == "ptq" and cfg.file_format != "ONNX":
        raise UsageError(f"{where} is ptq, which writes ONNX; {cfg.where('file_format')} is {cfg.file_format}")
    if asked == "fake" and cfg.file_format == "ONNX":
        raise UsageError(f"{where} is fake, which writes MINDIR; ONNX has operators for int8: leave the key out")
    if asked == "int8":
        _check_int8(cfg)
    return asked


def _check_int8(cfg: Config) -> None:
    if not cfg.symmetric[0]:
        raise UsageError("int8 files hold symmetric weights, but the network was trained with symmetric False for them")
    if cfg.file_format == "ONNX" and cfg.quant_bits[1] != 8:
        raise UsageError(
            f"int8 activations have 8 bits, but the network was trained for {cfg.quant_bits[1]} (quant_bits)"
        )
    if cfg.file_format == "MINDIR" and not cfg.per_channel[0]:
        raise UsageError("int8 kernels in MINDIR have a scale a channel; the network was trained with one for all")


def tolerance_of(kind: str, file_format: str, float_tolerance: float) -> float:
    """The largest relative error of an output; 0 asks for equal bits.

    Args:
        kind: as `kind_of` gives it.
        file_format: MINDIR or ONNX.
        float_tolerance: of the model's float ONNX file.
    """
    if file_format == "MINDIR":
        return _MINDIR_TOLERANCE if kind == "int8" else 0.0
    return {"int8": _ONNX_TOLERANCE, "ptq": _PTQ_TOLERANCE}.get(kind, float_tolerance)


def copy_of(prepared: Prepared) -> nn.Cell:
    """The network once more, with the same weights, to be changed."""
    network = prepared.recipe.build_network()
    fill_network(network, tensors_of(prepared.network), prepared.source)
    network.set_train(False)
    return network


def network_to_write(prepared: Prepared, kind: str) -> nn.Cell:
    """The network as it goes into a MINDIR or AIR file, or a float ONNX file.

    Args:
        prepared: the network.
        kind: "float"; "fake": it rounds by operators that hold in float16; "int8": and keeps its kernels as int8 codes.
    """
    if kind == "float":
        return prepared.network
    network = round_plainly(copy_of(prepared))
    return (store_int8(network) if kind == "int8" else network).set_train(False)


def write_int8_onnx(
    prepared: Prepared, form: Form, kind: str, path: Path, write: Callable[[nn.Cell, Path], None]
) -> Int8Report:
    """Writes an int8 ONNX file.

    Args:
        prepared: the network; of kind "int8" fake-quantized, of kind "ptq" float.
        form: of the file.
        kind: "int8" or "ptq".
        path: the file.
        write: writes a network (the network, not the cell of the form) as float ONNX to a path.
    """
    import onnx

    cfg = prepared.cfg
    grids: dict[str, Grid]
    if kind == "int8":
        network = copy_of(prepared)
        marks = mark_grids(network)
        write(network, path)
        model = _folded(path)
        grids = take_markers(model, marks)
        rule = WeightRule(cfg.per_channel[0], 2 ** (cfg.quant_bits[0] - 1) - 1)
    else:
        write(prepared.network, path)
        model = _folded(path)
        onnx.save(model, str(path))
        grids = calibrated_grids(path, tensors_to_calibrate(model), calibration_arrays(cfg, prepared.recipe, form))
        rule = WeightRule()
    insert_grids(model, spread_grids(model, grids), rule)
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


def session_options() -> Any:
    """onnxruntime's options for this processor.

    Without VNNI its fast kernels for int8 add pairs of products in 16 bits and cut off what does not fit; those that
    are exact are asked for instead. Float files are not affected.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies int8 with sums in 32 bits, by what Linux says of it."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags: Sequence[str] = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
