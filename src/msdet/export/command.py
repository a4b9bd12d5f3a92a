"""What export.py does: writes a network to a file, and keeps it only if it does what the checkpoint does."""

from __future__ import annotations

import logging
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor

from msdet.errors import UsageError
from msdet.export.formats.exporter import Exporter, cell_to_write, quantization_kind
from msdet.export.formats.onnx_file import write_float_onnx
from msdet.export.formats.table import EXPORTERS, get_exporter
from msdet.export.fp16 import Float16Report, compare_float16, run_in_float16
from msdet.export.int8.post_training import open_calibration_images
from msdet.export.prepared import Prepared, prepare
from msdet.export.sidecar import sidecar_path, write_sidecar
from msdet.export.spec import DeployCell, to_arrays
from msdet.export.verify import VerificationReport, compare_boxes, compare_outputs
from msdet.files import atomic_path, sha256_of
from msdet.runtime.start import start, start_logging
from msdet.text import writable_path

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

# MindSpore's export refuses a path with a space or letters of other scripts.
_MINDSPORE_TAKES = re.compile(r"[0-9a-zA-Z@_.:/-]+")


def export(cfg: Config) -> int:
    """Exports the checkpoint `pretrained` as the configuration says; the file appears only once it is verified.

    Raises:
        UserError: the weights do not fit, the format cannot be written here, or the file does not match the checkpoint.
        UsageError: keys contradict each other.
    """
    start_logging(None)
    # The file is compared with the checkpoint: in full float32, whatever training computes convolutions in.
    runtime = start(cfg.replace(allow_hf32=False))
    exporter = get_exporter(cfg)
    exporter.check(cfg, runtime.device)
    target = target_path(cfg)
    prepared = prepare(cfg)
    if quantization_kind(prepared.cfg, exporter) == "ptq":
        # Writing the float file takes minutes: what is wrong with the pictures is told before.
        open_calibration_images(prepared.cfg)
    spec = prepared.spec()
    with atomic_path(target) as beside, writable_path(beside, _MINDSPORE_TAKES.fullmatch) as file:
        arrays = prepared.inputs(spec)
        ours = to_arrays(DeployCell(prepared.recipe, prepared.network, spec)(*map(Tensor, arrays)))
        agreement = write_and_verify(prepared, exporter, Path(file), arrays, ours)
        half = in_float16(prepared, exporter, Path(file), arrays, ours) if cfg.emulate_float16 else {}
    write_sidecar(target, sidecar_content(prepared, exporter, agreement, half))
    verified = agreement or f"{cfg.file_format} cannot be loaded to verify it"
    log.info("%s: %.1f MB; %s", target, target.stat().st_size / 1e6, verified)
    for mode, report in half.items():
        tell = log.info if report.is_within else log.warning
        remedy = "" if report.is_within else ". Do not run it in this precision mode"
        tell("%s, emulated for Ascend: against float32 %s%s", mode, report, remedy)
    log.info("its sidecar: %s", sidecar_path(target))
    return 0


def target_path(cfg: Config) -> Path:
    """The file to write: `file_name`, or the model's name, with the suffix of the format.

    Raises:
        UsageError: the name has the suffix of another format.
    """
    suffix = get_exporter(cfg).suffix
    path = Path(cfg.file_name or cfg.model)
    other = next((name for name, exporter in EXPORTERS.items() if exporter.suffix == path.suffix != suffix), "")
    if other:
        raise UsageError(
            f"{cfg.where('file_name')} is {path}, but file_format is {cfg.file_format}: add --file_format {other}, or "
            "leave the suffix out"
        )
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def write_and_verify(
    prepared: Prepared, exporter: Exporter, path: Path, arrays: Sequence[np.ndarray], ours: list[np.ndarray]
) -> VerificationReport | None:
    """Writes the file, loads it again and compares it with the network; None where nothing can load it.

    Args:
        prepared, exporter, path: what to write, how and where.
        arrays: sample inputs.
        ours: what the checkpoint's network makes of them.

    Raises:
        UserError: it does not match.
    """
    spec, kind = prepared.spec(), quantization_kind(prepared.cfg, exporter)
    log.info("writing %s (%s) for %d x %d px", prepared.cfg.file_format, kind, *spec.size)
    int8 = exporter.write(prepared, spec, kind, path, arrays, prepared.output_names(spec, len(ours)))
    theirs = exporter.run(path, arrays)
    if theirs is None:
        return None
    outputs = compare_outputs(ours, theirs, exporter.tolerance(kind, prepared.recipe.EXPORT_TOLERANCE))
    if int8 is not None:
        # Rounding moves boxes by more than another kernel does; `msdet compare` scores such files instead.
        return VerificationReport(outputs, int8=int8)
    if prepared.recipe.task != "detect":
        return VerificationReport(outputs)
    finish = prepared.finisher(spec)
    ours, theirs = finish(ours), finish(theirs)
    threshold = prepared.recipe.postprocess_options().score_threshold
    return VerificationReport(outputs, *compare_boxes(ours, theirs, threshold, spec.size))


def in_float16(
    prepared: Prepared, exporter: Exporter, path: Path, arrays: Sequence[np.ndarray], ours: list[np.ndarray]
) -> dict[str, Float16Report]:
    """What each precision mode of Ascend does to what was written to `path`; nothing of a file for int8 kernels of
    onnxruntime, whose operators are none of Ascend's.

    Files of other formats are written once more as ONNX for it: the same cell, with the same weights. The arguments are
    those of `write_and_verify`.
    """
    spec, kind = prepared.spec(), quantization_kind(prepared.cfg, exporter)
    onnx = EXPORTERS["ONNX"]
    if exporter is onnx and kind != "float":
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = path
        if exporter is not onnx:
            file = Path(folder) / "model.onnx"
            names = prepared.output_names(spec, len(ours))
            write_float_onnx(cell_to_write(prepared, spec, kind), spec, file, arrays, names)
        results = run_in_float16(file, arrays)
    threshold = prepared.recipe.postprocess_options().score_threshold if prepared.recipe.task == "detect" else 0.0
    finish = prepared.finisher(spec)
    return {
        mode: compare_float16(finish(ours), finish(theirs), threshold, spec.size) for mode, theirs in results.items()
    }


def sidecar_content(
    prepared: Prepared, exporter: Exporter, agreement: VerificationReport | None, half: Mapping[str, Float16Report]
) -> dict[str, Any]:
    """All that running the file needs to know, and what was verified."""
    spec, kind = prepared.spec(), quantization_kind(prepared.cfg, exporter)
    cell_inputs = [
        {"name": name, "shape": list(shape), "dtype": str(dtype).lower()} for name, shape, dtype in spec.input_specs()
    ]
    card = {key: value for key, value in prepared.card.items() if key != "sha256"}
    return {
        "format": prepared.cfg.file_format,
        "form": spec.to_dict(),
        "inputs": cell_inputs,
        "config": card,
        "checkpoint": {"file": prepared.source.name, "sha256": sha256_of(prepared.source)},
        "verified": asdict(agreement) if agreement else None,
        "float16": {mode: {**asdict(report), "is_within": report.is_within} for mode, report in half.items()},
        "quantization": kind,
        "tolerance": exporter.tolerance(kind, prepared.recipe.EXPORT_TOLERANCE),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mindspore", "onnx", "onnxruntime", "numpy")},
        },
    }
