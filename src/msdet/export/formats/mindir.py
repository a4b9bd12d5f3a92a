"""MINDIR, which MindSpore and MindSpore Lite run, and AIR, which MindSpore writes on Ascend alone."""

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
    from msdet.export.prepared import Prepared

_INT8_TOLERANCE = 1e-5


class MindirExporter(Exporter):
    """See `Exporter`; the same kernels compute the file, so that it gives the same bits."""

    suffix: ClassVar[str] = ".mindir"
    takes_any_batch: ClassVar[bool] = True
    _FORMAT: ClassVar[str] = "MINDIR"

    def check_int8(self, cfg: QuantKeys) -> None:
        if not cfg.per_channel[0]:
            raise UsageError("int8 kernels in MINDIR have a scale a channel; the network was trained with one for all")

    def tolerance(self, kind: str, float_tolerance: float) -> float:
        return _INT8_TOLERANCE if kind == "int8" else 0.0

    def write(
        self,
        prepared: Prepared,
        spec: ExportSpec,
        kind: str,
        path: Path,
        arrays: Sequence[np.ndarray],
        names: list[str],
    ) -> None:
        inputs = [Tensor(shape=list(shape), dtype=dtype) for _, shape, dtype in spec.input_specs()]
        if spec.batch_size:
            inputs = [Tensor(array) for array in arrays]
        ms.export(cell_to_write(prepared, spec, kind), *inputs, file_name=str(path), file_format=self._FORMAT)

    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        return to_arrays(nn.GraphCell(ms.load(str(path)))(*[Tensor(array) for array in arrays]))


class AirExporter(MindirExporter):
    """See `Exporter`. Nothing loads the file again."""

    suffix: ClassVar[str] = ".air"
    takes_any_batch: ClassVar[bool] = False
    _FORMAT: ClassVar[str] = "AIR"

    def check(self, cfg: Config, device: str) -> None:
        if device != "Ascend":
            raise UsageError(
                f"{cfg.where('file_format')} is AIR, which only MindSpore on Ascend writes, and this is {device}. "
                "Export MINDIR here: it runs on Ascend too, and atc turns ONNX into an .om."
            )
        super().check(cfg, device)

    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> None:
        return None
