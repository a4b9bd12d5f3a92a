"""The table of export formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msdet.errors import UsageError
from msdet.export.formats.exporter import Exporter
from msdet.export.formats.mindir import AirExporter, MindirExporter
from msdet.export.formats.onnx_file import OnnxExporter

if TYPE_CHECKING:
    from msdet.config import Config

# Value of `file_format` -> exporter.
EXPORTERS: dict[str, Exporter] = {"MINDIR": MindirExporter(), "ONNX": OnnxExporter(), "AIR": AirExporter()}


def get_exporter(cfg: Config) -> Exporter:
    """The exporter of `file_format`.

    Raises:
        UsageError: unknown format.
    """
    if cfg.file_format not in EXPORTERS:
        raise UsageError(f"{cfg.where('file_format')} is {cfg.file_format!r}; it takes one of {', '.join(EXPORTERS)}")
    return EXPORTERS[cfg.file_format]
