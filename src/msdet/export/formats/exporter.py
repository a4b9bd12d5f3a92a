"""What a format of exported files must offer. A format is a class like this, and a line in `formats/table.py`."""

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
    from msdet.export.prepared import Prepared


class Exporter(ABC):
    """Writes a prepared network in one format, and runs what was written.

    Attributes:
        suffix: of its files.
        takes_any_batch: whether a file can take any number of images.
        quantized: what `quantize` may ask for besides "float"; the first is what a network trained for int8 becomes.
    """

    suffix: ClassVar[str]
    takes_any_batch: ClassVar[bool] = False
    quantized: ClassVar[tuple[str, ...]] = ("fake", "int8")

    def check(self, cfg: Config, device: str) -> None:
        """Refuses what this machine or format cannot do, before anything is loaded.

        Raises:
            UsageError: with the reason and what to do instead.
        """
        del device
        if not cfg.export_batch_size and not self.takes_any_batch:
            raise UsageError(f"{cfg.where('export_batch_size')} is 0 (any); {cfg.file_format} files have a fixed batch")

    def check_int8(self, cfg: QuantKeys) -> None:  # noqa: B027 (most have no rule of their own)
        """Refuses a network that was trained for ranges which int8 files of this format cannot hold.

        Raises:
            UsageError: with the reason.
        """

    @abstractmethod
    def tolerance(self, kind: str, float_tolerance: float) -> float:
        """The largest relative error of an output of the file; 0 asks for equal bits.

        Args:
            kind: "float" or one of `quantized`.
            float_tolerance: of the model, where other kernels compute than MindSpore's.
        """

    @abstractmethod
    def write(
        self,
        prepared: Prepared,
        spec: ExportSpec,
        kind: str,
        path: Path,
        arrays: Sequence[np.ndarray],
        names: list[str],
    ) -> Int8Report | None:
        """Writes a file.

        Args:
            prepared, spec, kind: what to write; see `quantization_kind`.
            path: where to.
            arrays: sample inputs.
            names: of the outputs.

        Returns:
            what was made of the convolutions, where another runtime computes in int8.
        """

    @abstractmethod
    def run(self, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Loads a file again and runs it once; None where nothing here can.

        Raises:
            UserError: the file takes other inputs.
        """


def quantization_kind(cfg: Config, exporter: Exporter) -> str:
    """What `quantize` asks for, after the checkpoint's card: "float", or one of the exporter's `quantized`.

    Raises:
        UsageError: the checkpoint or the format does not fit.
    """
    asked, trained, where = cfg.quantize, cfg.quantization_aware, cfg.where("quantize")
    if asked == "auto":
        asked = exporter.quantized[0] if trained else "float"
    if asked in ("fake", "int8") and not trained:
        raise UsageError(
            f"{where} is {asked}, but the checkpoint is a float network; train it with quantization_aware, or take ptq"
        )
    if asked == "ptq" and trained:
        raise UsageError(f"{where} is ptq, but the checkpoint was trained for int8 and knows its ranges: leave it out")
    if asked not in ("float", *exporter.quantized):
        able = {"ptq": "ONNX", "fake": "MINDIR"}[asked]
        raise UsageError(
            f"{where} is {asked}, which writes {able}; {cfg.where('file_format')} is {cfg.file_format}: leave the key "
            f"out, or set --file_format {able}"
        )
    if asked == "int8":
        assert isinstance(cfg, QuantKeys), "other models are not trained for int8"
        if not cfg.symmetric[0]:
            raise UsageError(
                "int8 files hold symmetric weights, but the network was trained with symmetric False for them"
            )
        exporter.check_int8(cfg)
    return asked


def cell_to_write(prepared: Prepared, spec: ExportSpec, kind: str) -> nn.Cell:
    """The cell that goes into a MINDIR or AIR file, or a float ONNX file.

    Args:
        prepared, spec: see `Exporter`.
        kind: "float"; "fake": it rounds by operators that hold in float16; "int8": and keeps its kernels as int8 codes.
    """
    network = prepared.network
    if kind != "float":
        network = use_round_operator(prepared.copy())
        network = (store_int8(network) if kind == "int8" else network).set_train(False)
    return DeployCell(prepared.recipe, network, spec)
