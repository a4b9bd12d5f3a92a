"""The sidecar of an exported file: what the file contains, and the checksum that is verified before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msdet.errors import UserError
from msdet.export.spec import ExportSpec
from msdet.files import read_json, sha256_of, write_json


def sidecar_path(file: Path) -> Path:
    """The file name with `.json` appended: NAME.mindir.json, NAME.onnx.json."""
    return file.with_name(file.name + ".json")


def write_sidecar(file: Path, content: Mapping[str, Any]) -> None:
    """Writes the sidecar, with the SHA-256 of the file."""
    write_json(sidecar_path(file), {**content, "sha256": sha256_of(file)})


def read_sidecar(file: Path) -> tuple[dict[str, Any], ExportSpec]:
    """Reads the sidecar of a file and verifies the file's checksum.

    An .om has the sidecar of the ONNX or AIR file that atc converted; its checksum cannot be verified.

    Raises:
        UserError: the file or the sidecar is missing, the sidecar is damaged, or the checksum differs.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist")
    path = sidecar_path(file)
    is_derived = file.suffix == ".om"
    if is_derived:
        sources = [sidecar_path(file.with_suffix(suffix)) for suffix in (".onnx", ".air")]
        path = next((source for source in sources if source.is_file()), sources[0])
    if not path.is_file():
        raise UserError(
            f"{path} is missing; it has the classes and the preprocessing of {file.name}.\n"
            "Copy both files that export.py wrote."
        )
    content = read_json(path)
    try:
        spec = ExportSpec.from_dict(content["form"])
        expected = content["sha256"]
        content["config"]["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a sidecar of export.py: {error} is missing or invalid") from error
    if not is_derived and expected != sha256_of(file):
        raise UserError(
            f"{file} is not the file that {path.name} describes (sha256 differs): it is damaged or was replaced, and "
            "was not run. Export it again, or copy both files together."
        )
    return content, spec
