"""ONNX, which onnxruntime runs and atc converts to an .om."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from msdet.errors import UsageError, UserError
from msdet.export.formats.exporter import Exporter, cell_to_write
from msdet.export.int8.onnx import write_int8_onnx
from msdet.export.onnx_graph import finalize_onnx
from msdet.export.onnx_session import session_options
from msdet.export.spec import DeployCell, ExportSpec
from msdet.export.verify import Int8Report

if TYPE_CHECKING:
    from msdet.config.sections.quantization import QuantKeys
    from msdet.export.export_network import ExportNetwork

# An int8 kernel accumulates exactly and rounds once; the fake-quantized network rounds at every float operation. Values
# halfway between two int8 codes can round to either, and such differences add up over dozens of layers. Measured:
# scores of a few objects differ by 0.07 and 0.11, average precision by 0.002. A missing scale or a wrong kernel gives a
# relative error of about 1.
_INT8_TOLERANCE = 0.25
# Post-training quantization changes the outputs; this only rejects files that are unusable. See `msdet compare`.
_PTQ_TOLERANCE = 0.5


class OnnxExporter(Exporter):
    """See `Exporter`."""

    suffix: ClassVar[str] = ".onnx"
    quantized: ClassVar[tuple[str, ...]] = ("int8", "ptq")

    def check_int8(self, cfg: QuantKeys) -> None:
        if cfg.quant_bits[1] != 8:
            raise UsageError(
                f"int8 activations have 8 bits, but the network was trained with {cfg.quant_bits[1]} (quant_bits)"
            )

    def tolerance(self, kind: str, float_tolerance: float) -> float:
        return {"int8": _INT8_TOLERANCE, "ptq": _PTQ_TOLERANCE}.get(kind, float_tolerance)

    def write(
        self,
        loaded: ExportNetwork,
        spec: ExportSpec,
        kind: str,
        path: Path,
        arrays: Sequence[np.ndarray],
        names: list[str],
    ) -> Int8Report | None:
        if kind not in ("int8", "ptq"):
            write_float_onnx(cell_to_write(loaded, spec, kind), spec, path, arrays, names)
            return None

        def write(network: nn.Cell, file: Path) -> None:
            write_float_onnx(DeployCell(loaded.recipe, network, spec), spec, file, arrays, names)

        return write_int8_onnx(loaded, spec, kind, path, write)

    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        if len(names) != len(arrays):
            raise UserError(f"the ONNX file has {len(names)} inputs instead of {len(arrays)}")
        return session.run(None, dict(zip(names, arrays, strict=True)))


def write_float_onnx(
    cell: nn.Cell, spec: ExportSpec, path: Path, arrays: Sequence[np.ndarray], names: list[str]
) -> None:
    """Writes a cell as float ONNX; see `Exporter.write`."""
    ms.onnx.export(cell, *[Tensor(array) for array in arrays], file_name=str(path))
    finalize_onnx(path, [name for name, _, _ in spec.input_specs()], names)
