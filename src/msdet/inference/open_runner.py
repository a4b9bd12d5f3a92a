"""Opens a checkpoint or a file of export.py with what runs it."""

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

# Who runs which files; the first is what `runner` auto stands for.
RUNNERS = {
    ".ckpt": ("checkpoint",),
    ".mindir": ("mindspore", "mindspore_lite"),
    ".onnx": ("onnxruntime",),
    ".om": ("om",),
}


def runner_for(path: Path, runner: str = "auto") -> str:
    """Who is to run a file, by its suffix where `runner` is "auto".

    Raises:
        UsageError: the suffix is unknown, or the runner cannot run such files.
    """
    if path.suffix not in RUNNERS:
        raise UsageError(f"{path}: a checkpoint (.ckpt), a file of export.py (.mindir, .onnx) or an .om is needed")
    able = RUNNERS[path.suffix]
    if runner not in ("auto", *able):
        raise UsageError(f"runner {runner} does not run {path.suffix} files; {', '.join(able)} does")
    return able[0] if runner == "auto" else runner


def host_config(cfg: ConfigT, path: Path) -> ConfigT:
    """The configuration that MindSpore starts with: where another runtime computes, it only prepares and decodes, which
    it does on the CPU, whatever the machine has."""
    return cfg if runner_for(path, cfg.runner) in ("checkpoint", "mindspore") else cfg.replace(device_target="CPU")


def open_runner(path: Path, cfg: Config, runner: str = "auto") -> Runner:
    """Opens a checkpoint, or a file of export.py after verifying it against its sidecar.

    Args:
        path: .ckpt, .mindir, .onnx, or an .om that atc made of the latter.
        cfg: configuration of the model; what the file says of itself is put over its defaults.
        runner: "auto" (by the suffix), or one of `RUNNERS`.

    Raises:
        UserError: the file is missing, damaged or not of this model; the runner is not installed.
        UsageError: the suffix is unknown, or the runner cannot run such files.
    """
    kinds: dict[str, Callable[[Path, Config], Runner]] = {
        "checkpoint": CheckpointRunner,
        "mindspore": MindirRunner,
        "onnxruntime": OnnxRunner,
        "mindspore_lite": LiteRunner,
        "om": OmRunner,
    }
    return kinds[runner_for(path, runner)](path, cfg)
