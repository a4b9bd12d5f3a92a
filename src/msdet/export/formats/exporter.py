"""The interface of export formats. A format is a subclass of `Exporter`, and a line in `formats/table.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from mindspore import nn

from msdet.config.sections.quantization import QuantKeys
from msdet.errors import UsageError
from msdet.export.spec import DeployCell, ExportSpec
from msdet.export.verify import Int8Report
from msdet.quantization.quantize import store_int8, use_round_operator

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.export.export_network import ExportNetwork


class Exporter(ABC):
    """Writes a network in one format, and runs the written file.

    Attributes:
        suffix: of its files.
        takes_any_batch: whether a file can have a dynamic batch size.
        quantized: supported values of `quantize`; the first is the default for a quantization-aware checkpoint.
    """

    suffix: ClassVar[str]
    takes_any_batch: ClassVar[bool] = False
    quantized: ClassVar[tuple[str, ...]] = ("fake", "int8")

    def check(self, cfg: Config, device: str) -> None:
        """Rejects settings that this machine or format does not support, before anything is loaded.

        Raises:
            UsageError: with the reason and the remedy.
        """
        del device
        if not cfg.export_batch_size and not self.takes_any_batch:
            raise UsageError(
                f"{cfg.where('export_batch_size')} is 0 (dynamic); {cfg.file_format} files have a fixed batch size"
            )

    def check_int8(self, cfg: QuantKeys) -> None:  # noqa: B027 (most have no rule of their own)
        """Rejects quantization settings of the network that int8 files of this format do not support.

        Raises:
            UsageError: with the reason.
        """

    @abstractmethod
    def tolerance(self, kind: str, float_tolerance: float) -> float:
        """The maximum relative error of an output of the file; 0: bit-identical.

        Args:
            kind: "float" or one of `quantized`.
            float_tolerance: tolerance of the model for float files that run outside of MindSpore.
        """

    @abstractmethod
    def write(
        self,
        loaded: ExportNetwork,
        spec: ExportSpec,
        kind: str,
        path: Path,
        arrays: Sequence[np.ndarray],
        names: list[str],
    ) -> Int8Report | None:
        """Writes a file.

        Args:
            loaded, spec, kind: what to write; see `quantization_kind`.
            path: the file.
            arrays: sample inputs.
            names: names of the outputs.

        Returns:
            how the convolutions of an int8 ONNX file are computed; None for other files.
        """

    @abstractmethod
    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Loads a file and runs it once; None if nothing here can load it.

        Raises:
            UserError: the file has other inputs.
        """


def quantization_kind(cfg: Config, exporter: Exporter) -> str:
    """The value of `quantize` with "auto" resolved: "float", or one of the exporter's `quantized`.

    Args:
        cfg: the configuration after the checkpoint's card.
        exporter: of the format.

    Raises:
        UsageError: the checkpoint or the format does not support it.
    """
    asked, trained, where = cfg.quantize, cfg.quantization_aware, cfg.where("quantize")
    if asked == "auto":
        asked = exporter.quantized[0] if trained else "float"
    if asked in ("fake", "int8") and not trained:
        raise UsageError(
            f"{where} is {asked}, but the checkpoint is a float network; train it with quantization_aware, or use ptq"
        )
    if asked == "ptq" and trained:
        raise UsageError(f"{where} is ptq, but the checkpoint is quantization-aware and has its ranges: remove it")
    if asked not in ("float", *exporter.quantized):
        supported = {"ptq": "ONNX", "fake": "MINDIR"}[asked]
        raise UsageError(
            f"{where} is {asked}, which needs {supported}; {cfg.where('file_format')} is {cfg.file_format}: remove the "
            f"key, or set --file_format {supported}"
        )
    if asked == "int8":
        assert isinstance(cfg, QuantKeys), "other models have no quantization-aware training"
        if not cfg.symmetric[0]:
            raise UsageError("int8 files have symmetric weights, but the network was trained with asymmetric ones")
        exporter.check_int8(cfg)
    return asked


def cell_to_write(loaded: ExportNetwork, spec: ExportSpec, kind: str) -> nn.Cell:
    """The cell that is written to a MINDIR or AIR file, or a float ONNX file.

    Args:
        loaded, spec: see `Exporter`.
        kind: "float"; "fake": fake quantization by operators that are exact in float16; "int8": as "fake", with
            weights stored as int8.
    """
    network = loaded.network
    if kind != "float":
        network = use_round_operator(loaded.copy_network())
        network = (store_int8(network) if kind == "int8" else network).set_train(False)
    return DeployCell(loaded.recipe, network, spec)
