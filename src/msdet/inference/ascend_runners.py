"""Runners for Ascend without MindSpore's main package: MindSpore Lite, and CANN's runtime for .om files.

Since MindSpore 2.2 that package does not support Atlas 200/300/500 (Ascend 310). These two runtimes do, and also the
Atlas inference series (310P: 300I Pro, 300I Duo) and training cards. Pre- and post-processing run on the host.

Neither runtime is on PyPI, and neither was run by this project: tests use stubs with the same interface.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.errors import UserError
from msdet.export.atc import PRECISION_MODES
from msdet.inference.runners import ExportedRunner, loading_error
from msdet.runtime.ranks import device_id_of
from msdet.runtime.start import requested_device
from msdet.text import readable_path

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)


class LiteRunner(ExportedRunner):
    """Runs a MINDIR file with MindSpore Lite on Ascend, or on the CPU with `device_target` CPU."""

    def __init__(self, path: Path, cfg: Config) -> None:
        try:
            import mindspore_lite as lite
        except ImportError as error:
            raise UserError(
                "runner mindspore_lite: the package mindspore_lite is not installed. Its wheel comes with MindSpore "
                "Lite (mindspore.cn, for Ascend), not from PyPI. Alternatives: --runner mindspore on the CPU or a "
                "training card, or an .om of atc with --runner om."
            ) from error
        super().__init__(path, cfg)
        context = lite.Context()
        on_cpu = requested_device(cfg) == "CPU"
        context.target = ["cpu" if on_cpu else "ascend"]
        if not on_cpu:
            context.ascend.device_id = device_id_of(cfg)
            context.ascend.precision_mode = cfg.precision_mode
            _warn_of_half(path, self.sidecar, cfg.precision_mode)
        self.model = lite.Model()
        try:
            with readable_path(path, copy=True) as name:
                self.model.build_from_file(name, lite.ModelType.MINDIR, context)
        except (RuntimeError, ValueError, TypeError) as error:
            raise loading_error(path, error) from error

    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        inputs = self.model.get_inputs()
        if not self.batch_size:
            self.model.resize(inputs, [list(array.shape) for array in arrays])
        for value, array in zip(inputs, arrays, strict=True):
            value.set_data_from_numpy(np.ascontiguousarray(array))
        return [output.get_data_to_numpy() for output in self.model.predict(inputs)]


class OmRunner(ExportedRunner):
    """Runs an .om, which atc converted from an ONNX or AIR file of export.py, with CANN's ais_bench."""

    def __init__(self, path: Path, cfg: Config) -> None:
        try:
            from ais_bench.infer.interface import InferSession
        except ImportError as error:
            raise UserError(
                f"{path}: the packages ais_bench and aclruntime are not installed. Their wheels are those of the "
                "Ascend tools (gitee.com/ascend/tools, ais-bench_workload), not from PyPI; or run the .onnx or .mindir."
            ) from error
        super().__init__(path, cfg)
        # The precision mode was chosen at the conversion; atc.sh uses that of the key.
        _warn_of_half(path, self.sidecar, cfg.precision_mode)
        try:
            with readable_path(path, copy=True) as name:
                self.session = InferSession(device_id=device_id_of(cfg), model_path=name)
        except (RuntimeError, ValueError) as error:
            raise loading_error(path, error) from error
        _check_inputs(path, self.session.get_inputs(), self.sidecar["inputs"], self.batch_size)

    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        # Some versions return the type of the file's outputs; atc.sh requests float32.
        outputs = self.session.infer([np.ascontiguousarray(array) for array in arrays], mode="static")
        return [np.asarray(output, np.float32) for output in outputs]

    def close(self) -> None:
        self.session.free_resource()


def _warn_of_half(path: Path, sidecar: dict[str, Any], mode: str) -> None:
    report = sidecar.get("float16", {}).get(mode)
    if report is not None and not report["is_within"]:
        difference = "outputs were NaN"
        if report["is_number"]:
            difference = f"boxes differed by {report['box_px']:.2g} px, scores by {report['score']:.2g} from float32"
        log.warning(
            "%s: precision mode %s, emulated at export: %s; other modes: %s",
            path, mode, difference, ", ".join(other for other in PRECISION_MODES if other != mode),
        )  # fmt: skip


def _check_inputs(path: Path, inputs: list[Any], expected: list[dict[str, Any]], batch_size: int) -> None:
    """Compares the input shapes of an .om with the sidecar, which has no checksum for it.

    Raises:
        UserError: they differ.
    """
    shapes = [list(value.shape) for value in inputs]
    wanted = [[batch_size or 1, *value["shape"][1:]] for value in expected]
    if shapes != wanted:
        raise UserError(
            f"{path} has input shapes {shapes}, but the file that it was converted from has {wanted}: run atc again "
            "(atc.sh), or copy the right sidecar"
        )
