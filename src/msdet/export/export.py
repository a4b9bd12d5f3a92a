"""What export.py does: writes a network to a file, and keeps it only if it does what the checkpoint does."""

from __future__ import annotations

import logging
import platform
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights
from msdet.errors import UsageError, UserError
from msdet.export.form import DeployCell, Finish, Form, as_arrays
from msdet.export.fp16 import HalfReport, compare_half, run_in_half
from msdet.export.int8.export import kind_of, network_to_write, session_options, tolerance_of, write_int8_onnx
from msdet.export.int8.post_training import calibration_pictures
from msdet.export.onnx_graph import polish
from msdet.export.sample_images import sample_images
from msdet.export.sidecar import sidecar_path, write_sidecar
from msdet.export.verify import Agreement, compare_boxes, compare_outputs
from msdet.files import atomic_path, sha256_of
from msdet.models.recipe import get_recipe
from msdet.runtime.start import start, start_logging
from msdet.text import writable_path

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.models.recipe import DetectionRecipe

log = logging.getLogger(__name__)

SUFFIXES = {"MINDIR": ".mindir", "ONNX": ".onnx", "AIR": ".air"}
# Images of a comparison where the file takes any number: more than one, and an odd one.
_ANY_BATCH = 3
# MindSpore's export refuses a path with a space or letters of other scripts.
_MINDSPORE_TAKES = re.compile(r"[0-9a-zA-Z@_.:/-]+")


@dataclass(frozen=True)
class Prepared:
    """A network with its weights, ready to be written.

    Attributes:
        cfg: resolved configuration, after the checkpoint's card.
        recipe: of the model.
        network: filled, in inference mode.
        card: of the checkpoint, or made from the configuration where it has none.
        source: the checkpoint.
    """

    cfg: Config
    recipe: DetectionRecipe
    network: nn.Cell
    card: Mapping[str, Any]
    source: Path


def export(cfg: Config) -> int:
    """Exports the checkpoint `pretrained` as the configuration says; the file appears only once it is verified.

    Raises:
        UserError: the weights do not fit, the format cannot be written here, or the file does not match the checkpoint.
        UsageError: keys contradict each other.
    """
    start_logging(None)
    # The file is compared with the checkpoint: in full float32, whatever training computes convolutions in.
    runtime = start(cfg.replace(allow_hf32=False))
    check_format(cfg, runtime.device)
    target = target_path(cfg)
    prepared = prepare(cfg)
    if kind_of(prepared.cfg) == "ptq":
        # Writing the float file takes minutes: what is wrong with the pictures is told before.
        calibration_pictures(prepared.cfg)
    form = form_of(prepared)
    with atomic_path(target) as beside, writable_path(beside, _MINDSPORE_TAKES.fullmatch) as file:
        arrays = inputs_of(prepared, form)
        ours = as_arrays(DeployCell(prepared.recipe, prepared.network, form)(*map(Tensor, arrays)))
        agreement = write_and_verify(prepared, form, Path(file), arrays, ours)
        half = in_float16(prepared, form, Path(file), arrays, ours) if cfg.emulate_float16 else {}
    write_sidecar(target, sidecar_of(prepared, form, agreement, half))
    log.info("%s: %.1f MB; %s", target, target.stat().st_size / 1e6, agreement or "AIR cannot be loaded to verify it")
    for mode, report in half.items():
        tell = log.info if report.is_within else log.warning
        remedy = "" if report.is_within else ". Do not run it in this precision mode"
        tell("%s, emulated for Ascend: against float32 %s%s", mode, report, remedy)
    log.info("its sidecar: %s", sidecar_path(target))
    return 0


def check_format(cfg: Config, device: str) -> None:
    """Refuses what this machine or format cannot do, before anything is loaded.

    Raises:
        UsageError: with the reason and what to do instead.
    """
    if cfg.file_format == "AIR" and device != "Ascend":
        raise UsageError(
            f"{cfg.where('file_format')} is AIR, which only MindSpore on Ascend writes, and this is {device}. "
            "Export MINDIR here: it runs on Ascend too, and atc turns ONNX into an .om."
        )
    if cfg.file_format != "MINDIR" and not cfg.export_batch_size:
        raise UsageError(f"{cfg.where('export_batch_size')} is 0 (any); {cfg.file_format} files have a fixed batch")


def prepare(cfg: Config) -> Prepared:
    """Builds the network that the checkpoint `pretrained` and its card describe.

    Raises:
        UserError: the checkpoint is missing or does not fit.
    """
    if not cfg.pretrained:
        raise UsageError("ckpt_file is empty: give the checkpoint to export with --ckpt_file")
    source = Path(cfg.pretrained)
    weights, card = load_weights(source)
    cfg = apply_card(cfg, card, source, with_classes=True)
    if not cfg.num_classes and not cfg.class_names:
        raise UsageError(f"{source} has no card that tells its classes: give --num_classes or --class_names")
    if not cfg.num_classes:
        cfg = cfg.replace(num_classes=len(cfg.class_names))
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    fill_network(network, weights, source, "Is this a checkpoint of another model, width or number of classes?")
    network.set_train(False)
    card = card or recipe.card(list(range(1, cfg.num_classes + 1)))
    return Prepared(cfg, recipe, network, card, source)


def form_of(prepared: Prepared) -> Form:
    """What the configuration wants inside the file."""
    cfg = prepared.cfg
    valid = cfg.keep_preprocess and prepared.recipe.build_preprocess().uses_valid_sizes
    return Form(cfg.testing_size, cfg.export_batch_size, cfg.keep_preprocess, cfg.keep_detect, valid)


def target_path(cfg: Config) -> Path:
    """The file to write: `file_name`, or the model's name, with the suffix of the format.

    Raises:
        UsageError: the name has the suffix of another format.
    """
    suffix = SUFFIXES[cfg.file_format]
    path = Path(cfg.file_name or cfg.model)
    other = next((name for name, end in SUFFIXES.items() if end == path.suffix != suffix), "")
    if other:
        raise UsageError(
            f"{cfg.where('file_name')} is {path}, but file_format is {cfg.file_format}: add --file_format {other}, or "
            "leave the suffix out"
        )
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def write_and_verify(
    prepared: Prepared, form: Form, path: Path, arrays: Sequence[np.ndarray], ours: list[np.ndarray]
) -> Agreement | None:
    """Writes the file, loads it again and compares it with the network; None for AIR, which cannot be loaded.

    Args:
        prepared, form, path: what to write, and where.
        arrays: sample inputs.
        ours: what the checkpoint's network makes of them.

    Raises:
        UserError: it does not match.
    """
    cfg, kind = prepared.cfg, kind_of(prepared.cfg)
    log.info("writing %s (%s) for %d x %d px", cfg.file_format, kind, *form.size)
    names = _output_names(prepared.recipe, form, len(ours))
    int8 = None

    def write(network: nn.Cell, file: Path) -> None:
        write_file(DeployCell(prepared.recipe, network, form), form, cfg.file_format, file, arrays, names)

    if cfg.file_format == "ONNX" and kind != "float":
        int8 = write_int8_onnx(prepared, form, kind, path, write)
    else:
        write(network_to_write(prepared, kind), path)
    if cfg.file_format == "AIR":
        return None
    theirs = run_onnx(path, arrays) if cfg.file_format == "ONNX" else run_mindir(path, arrays)
    tolerance = tolerance_of(kind, cfg.file_format, prepared.recipe.EXPORT_TOLERANCE)
    outputs = compare_outputs(ours, theirs, tolerance)
    if int8 is not None:
        # Rounding moves boxes by more than another kernel does; `msdet.tools.compare` scores such files instead.
        return Agreement(outputs, int8=int8)
    if prepared.recipe.task != "detect":
        return Agreement(outputs)
    finish = _finisher(prepared, form)
    ours, theirs = finish(ours), finish(theirs)
    threshold = prepared.recipe.postprocess_options().score_threshold
    return Agreement(outputs, *compare_boxes(ours, theirs, threshold, form.size))


def in_float16(
    prepared: Prepared, form: Form, path: Path, arrays: Sequence[np.ndarray], ours: list[np.ndarray]
) -> dict[str, HalfReport]:
    """What each precision mode of Ascend does to what was written to `path`; nothing of an int8 ONNX file.

    MINDIR and AIR are written once more as ONNX for it: the same cell, with the same weights. The arguments are those
    of `write_and_verify`.
    """
    cfg, kind = prepared.cfg, kind_of(prepared.cfg)
    if cfg.file_format == "ONNX" and kind != "float":
        # For onnxruntime: its operators for int8 are none of Ascend's.
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = path
        if cfg.file_format != "ONNX":
            file = Path(folder) / "model.onnx"
            cell = DeployCell(prepared.recipe, network_to_write(prepared, kind), form)
            write_file(cell, form, "ONNX", file, arrays, _output_names(prepared.recipe, form, len(ours)))
        results = run_in_half(file, arrays)
    threshold = prepared.recipe.postprocess_options().score_threshold if prepared.recipe.task == "detect" else 0.0
    finish = _finisher(prepared, form)
    return {mode: compare_half(finish(ours), finish(theirs), threshold, form.size) for mode, theirs in results.items()}


def inputs_of(prepared: Prepared, form: Form) -> list[np.ndarray]:
    """Sample images as the file takes them."""
    images, valid = sample_images(form.batch_size or _ANY_BATCH, form.size)
    normalised = prepared.recipe.build_preprocess()(Tensor(images), Tensor(valid)).asnumpy()
    return form.inputs(images, valid, normalised)


def _finisher(prepared: Prepared, form: Form) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """Boxes and scores, or probabilities, also of a file without decoder."""
    if form.detect:
        return lambda outputs: outputs
    finish = Finish(prepared.recipe, form.size)
    return lambda outputs: as_arrays(finish(*map(Tensor, outputs)))


def write_file(
    cell: nn.Cell, form: Form, file_format: str, path: Path, arrays: Sequence[np.ndarray], output_names: list[str]
) -> None:
    """Writes a cell in one of the three formats."""
    if file_format == "ONNX":
        ms.onnx.export(cell, *[Tensor(array) for array in arrays], file_name=str(path))
        polish(path, [name for name, _, _ in form.input_specs()], output_names)
        return
    inputs = [Tensor(shape=list(shape), dtype=kind) for _, shape, kind in form.input_specs()]
    if form.batch_size:
        inputs = [Tensor(array) for array in arrays]
    ms.export(cell, *inputs, file_name=str(path), file_format=file_format)


def run_mindir(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Loads a MINDIR file and runs it once."""
    return as_arrays(nn.GraphCell(ms.load(str(path)))(*[Tensor(array) for array in arrays]))


def run_onnx(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Loads an ONNX file in onnxruntime and runs it once on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    if len(names) != len(arrays):
        raise UserError(f"the ONNX file takes {len(names)} inputs, {len(arrays)} were meant")
    return session.run(None, dict(zip(names, arrays, strict=True)))


def _output_names(recipe: DetectionRecipe, form: Form, count: int) -> list[str]:
    if recipe.task != "detect":
        return ["probabilities" if form.detect else "logits"]
    return ["boxes", "scores"] if form.detect else [f"raw_{i}" for i in range(count)]


def sidecar_of(
    prepared: Prepared, form: Form, agreement: Agreement | None, half: Mapping[str, HalfReport]
) -> dict[str, Any]:
    """All that running the file needs to know, and what was verified."""
    cell_inputs = [
        {"name": name, "shape": list(shape), "dtype": str(kind).lower()} for name, shape, kind in form.input_specs()
    ]
    card = {key: value for key, value in prepared.card.items() if key != "sha256"}
    return {
        "format": prepared.cfg.file_format,
        "form": form.to_dict(),
        "inputs": cell_inputs,
        "config": card,
        "checkpoint": {"file": prepared.source.name, "sha256": sha256_of(prepared.source)},
        "verified": asdict(agreement) if agreement else None,
        "float16": {mode: {**asdict(report), "is_within": report.is_within} for mode, report in half.items()},
        "quantization": kind_of(prepared.cfg),
        "tolerance": tolerance_of(kind_of(prepared.cfg), prepared.cfg.file_format, prepared.recipe.EXPORT_TOLERANCE),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mindspore", "onnx", "onnxruntime", "numpy")},
        },
    }
