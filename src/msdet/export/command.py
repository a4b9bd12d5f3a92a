"""The command export: writes a network to a file and verifies the file against the checkpoint."""

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
from msdet.export.export_network import ExportNetwork
from msdet.export.formats.exporter import Exporter, cell_to_write, quantization_kind
from msdet.export.formats.onnx_file import write_float_onnx
from msdet.export.formats.table import EXPORTERS, get_exporter
from msdet.export.fp16 import Float16Report, compare_float16, run_in_float16
from msdet.export.int8.post_training import open_calibration_images
from msdet.export.sidecar import sidecar_path, write_sidecar
from msdet.export.spec import DeployCell, to_arrays
from msdet.export.verify import VerificationReport, compare_boxes, compare_outputs
from msdet.files import atomic_path, sha256_of
from msdet.session.session import Session
from msdet.text import writable_path

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

# Paths that MindSpore's export accepts: no spaces, no letters outside ASCII.
_MINDSPORE_PATH = re.compile(r"[0-9a-zA-Z@_.:/-]+")


def export(cfg: Config) -> int:
    """Exports the checkpoint `pretrained`; the file appears under its name only after it has been verified.

    Raises:
        UserError: the weights do not fit the model, or the file differs from the checkpoint.
        UsageError: invalid keys, or a format that cannot be written on this machine.
    """
    # The file is compared with the checkpoint, whose convolutions must be full float32.
    session = Session(cfg, host=cfg.replace(allow_hf32=False))
    session.log_to(None)
    exporter = get_exporter(cfg)
    exporter.check(cfg, session.runtime.device)
    target = target_path(cfg)
    if not cfg.pretrained:
        raise UsageError("ckpt_file is empty: give the checkpoint to export with --ckpt_file")
    loaded = ExportNetwork.load(cfg, session.source)
    if quantization_kind(loaded.cfg, exporter) == "ptq":
        # Check the calibration images before the float file is written, which takes minutes.
        open_calibration_images(loaded.cfg)
    spec = loaded.spec()
    with atomic_path(target) as temporary, writable_path(temporary, _MINDSPORE_PATH.fullmatch) as file:
        arrays = loaded.inputs(spec)
        expected = to_arrays(DeployCell(loaded.recipe, loaded.network, spec)(*map(Tensor, arrays)))
        report = write_and_verify(loaded, exporter, Path(file), arrays, expected)
        float16 = emulate_float16(loaded, exporter, Path(file), arrays, expected) if cfg.emulate_float16 else {}
    write_sidecar(target, sidecar_content(loaded, exporter, report, float16))
    verified = report or f"not verified, because {cfg.file_format} files cannot be loaded here"
    log.info("%s: %.1f MB; %s", target, target.stat().st_size / 1e6, verified)
    for mode, half in float16.items():
        level = logging.INFO if half.is_within else logging.WARNING
        remedy = "" if half.is_within else ". Do not run it in this precision mode"
        log.log(level, "Ascend precision mode %s (emulated), compared with float32: %s%s", mode, half, remedy)
    log.info("sidecar: %s", sidecar_path(target))
    return 0


def target_path(cfg: Config) -> Path:
    """The output file: `file_name` or the model name, with the suffix of the format.

    Raises:
        UsageError: `file_name` has the suffix of another format.
    """
    suffix = get_exporter(cfg).suffix
    path = Path(cfg.file_name or cfg.model)
    other = next((name for name, exporter in EXPORTERS.items() if exporter.suffix == path.suffix != suffix), "")
    if other:
        raise UsageError(
            f"{cfg.where('file_name')} is {path}, but file_format is {cfg.file_format}: add --file_format {other}, or "
            "remove the suffix"
        )
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def write_and_verify(
    loaded: ExportNetwork, exporter: Exporter, path: Path, arrays: Sequence[np.ndarray], expected: list[np.ndarray]
) -> VerificationReport | None:
    """Writes the file, loads it again and compares its outputs; None if nothing here can load the format.

    Args:
        loaded, exporter, path: what to write, how and where.
        arrays: sample inputs.
        expected: outputs of the checkpoint's network for them.

    Raises:
        UserError: the outputs differ.
    """
    spec, kind = loaded.spec(), quantization_kind(loaded.cfg, exporter)
    log.info("writing %s (%s) for %d x %d px", loaded.cfg.file_format, kind, *spec.size)
    int8 = exporter.write(loaded, spec, kind, path, arrays, loaded.output_names(spec, len(expected)))
    actual = exporter.run(path, arrays)
    if actual is None:
        return None
    outputs = compare_outputs(expected, actual, exporter.tolerance(kind, loaded.recipe.EXPORT_TOLERANCE))
    if int8 is not None:
        # int8 moves boxes by more than the tolerance; `msdet compare` evaluates such files instead.
        return VerificationReport(outputs, int8=int8)
    if loaded.recipe.task != "detect":
        return VerificationReport(outputs)
    decode = loaded.decode_function(spec)
    threshold = loaded.recipe.postprocess_options().score_threshold
    return VerificationReport(outputs, *compare_boxes(decode(expected), decode(actual), threshold, spec.size))


def emulate_float16(
    loaded: ExportNetwork, exporter: Exporter, path: Path, arrays: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> dict[str, Float16Report]:
    """The effect of each float16 precision mode of Ascend on the file at `path`; see `write_and_verify` for the
    arguments.

    MINDIR and AIR files are written again as ONNX for it, from the same cell. Empty for int8 ONNX files, whose
    operators exist only in onnxruntime.
    """
    spec, kind = loaded.spec(), quantization_kind(loaded.cfg, exporter)
    onnx = EXPORTERS["ONNX"]
    if exporter is onnx and kind != "float":
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = path
        if exporter is not onnx:
            file = Path(folder) / "model.onnx"
            names = loaded.output_names(spec, len(expected))
            write_float_onnx(cell_to_write(loaded, spec, kind), spec, file, arrays, names)
        results = run_in_float16(file, arrays)
    threshold = loaded.recipe.postprocess_options().score_threshold if loaded.recipe.task == "detect" else 0.0
    decode = loaded.decode_function(spec)
    reference = decode(list(expected))
    return {mode: compare_float16(reference, decode(actual), threshold, spec.size) for mode, actual in results.items()}


def sidecar_content(
    loaded: ExportNetwork, exporter: Exporter, report: VerificationReport | None, float16: Mapping[str, Float16Report]
) -> dict[str, Any]:
    """What is needed to run the file, and how it was verified."""
    spec, kind = loaded.spec(), quantization_kind(loaded.cfg, exporter)
    cell_inputs = [
        {"name": name, "shape": list(shape), "dtype": str(dtype).lower()} for name, shape, dtype in spec.input_specs()
    ]
    card = {key: value for key, value in loaded.card.items() if key != "sha256"}
    return {
        "format": loaded.cfg.file_format,
        "form": spec.to_dict(),
        "inputs": cell_inputs,
        "config": card,
        "checkpoint": {"file": loaded.source.name, "sha256": sha256_of(loaded.source)},
        "verified": asdict(report) if report else None,
        "float16": {mode: {**asdict(half), "is_within": half.is_within} for mode, half in float16.items()},
        "quantization": kind,
        "tolerance": exporter.tolerance(kind, loaded.recipe.EXPORT_TOLERANCE),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mindspore", "onnx", "onnxruntime", "numpy")},
        },
    }
