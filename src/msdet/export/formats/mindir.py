"""MINDIR, which MindSpore and MindSpore Lite run, and AIR, which MindSpore writes on Ascend only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from msdet.errors import UsageError
from msdet.export.formats.exporter import Exporter, cell_to_write
from msdet.export.spec import ExportSpec, to_arrays

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.config.sections.quantization import QuantKeys
    from msdet.export.export_network import ExportNetwork

_INT8_TOLERANCE = 1e-5


class MindirExporter(Exporter):
    """See `Exporter`. MindSpore runs the file with the same kernels, so outputs are bit-identical."""

    suffix: ClassVar[str] = ".mindir"
    takes_any_batch: ClassVar[bool] = True
    _FORMAT: ClassVar[str] = "MINDIR"

    def check_int8(self, cfg: QuantKeys) -> None:
        if not cfg.per_channel[0]:
            raise UsageError("int8 weights in MINDIR have per-channel scales; the network was trained with one scale")

    def tolerance(self, kind: str, float_tolerance: float) -> float:
        return _INT8_TOLERANCE if kind == "int8" else 0.0

    def write(
        self,
        loaded: ExportNetwork,
        spec: ExportSpec,
        kind: str,
        path: Path,
        arrays: Sequence[np.ndarray],
        names: list[str],
    ) -> None:
        inputs = [Tensor(shape=list(shape), dtype=dtype) for _, shape, dtype in spec.input_specs()]
        if spec.batch_size:
            inputs = [Tensor(array) for array in arrays]
        ms.export(cell_to_write(loaded, spec, kind), *inputs, file_name=str(path), file_format=self._FORMAT)

    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        return to_arrays(nn.GraphCell(ms.load(str(path)))(*[Tensor(array) for array in arrays]))


class AirExporter(MindirExporter):
    """See `Exporter`. The file cannot be loaded again, so it is not verified."""

    suffix: ClassVar[str] = ".air"
    takes_any_batch: ClassVar[bool] = False
    _FORMAT: ClassVar[str] = "AIR"

    def check(self, cfg: Config, device: str) -> None:
        if device != "Ascend":
            raise UsageError(
                f"{cfg.where('file_format')} is AIR, which only MindSpore on Ascend writes, and this is {device}. "
                "Export MINDIR here, which runs on Ascend too, or ONNX, which atc converts to an .om."
            )
        super().check(cfg, device)

    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> None:
        return None
