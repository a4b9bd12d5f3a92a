"""Opens a checkpoint or a file of export.py with its runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msdet.errors import UsageError
from msdet.inference.ascend_runners import LiteRunner, OmRunner
from msdet.inference.runners import CheckpointRunner, MindirRunner, OnnxRunner, Runner

if TYPE_CHECKING:
    from msdet.config import Config

ConfigT = TypeVar("ConfigT", bound="Config")

# Suffix -> runners; the first is the default (`runner` auto).
RUNNERS = {
    ".ckpt": ("checkpoint",),
    ".mindir": ("mindspore", "mindspore_lite"),
    ".onnx": ("onnxruntime",),
    ".om": ("om",),
}


def runner_for(path: Path, runner: str = "auto") -> str:
    """The runner of a file, chosen by its suffix if `runner` is "auto".

    Raises:
        UsageError: the suffix is unknown, or the runner does not support such files.
    """
    if path.suffix not in RUNNERS:
        raise UsageError(f"{path}: a checkpoint (.ckpt), a file of export.py (.mindir, .onnx) or an .om is needed")
    supported = RUNNERS[path.suffix]
    if runner not in ("auto", *supported):
        raise UsageError(f"runner {runner} does not run {path.suffix} files; {', '.join(supported)} does")
    return supported[0] if runner == "auto" else runner


def host_config(cfg: ConfigT, path: Path) -> ConfigT:
    """The configuration to start MindSpore with: the CPU if another runtime runs the file, because MindSpore then only
    does pre- and post-processing."""
    return cfg if runner_for(path, cfg.runner) in ("checkpoint", "mindspore") else cfg.replace(device_target="CPU")


def open_runner(path: Path, cfg: Config, runner: str = "auto") -> Runner:
    """Opens a checkpoint, or a file of export.py after verifying it against its sidecar.

    Args:
        path: .ckpt, .mindir, .onnx, or an .om that atc converted from the latter.
        cfg: configuration of the model; its defaults are overridden by the card or sidecar of the file.
        runner: "auto" (by the suffix), or one of `RUNNERS`.

    Raises:
        UserError: the file is missing, damaged or of another model; the runner is not installed.
        UsageError: the suffix is unknown, or the runner does not support such files.
    """
    kinds: dict[str, Callable[[Path, Config], Runner]] = {
        "checkpoint": CheckpointRunner,
        "mindspore": MindirRunner,
        "onnxruntime": OnnxRunner,
        "mindspore_lite": LiteRunner,
        "om": OmRunner,
    }
    return kinds[runner_for(path, runner)](path, cfg)
