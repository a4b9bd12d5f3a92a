"""Files that are whole or absent: written beside, forced to the disk, renamed."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from msdet.errors import UserError
from msdet.text import json_text, printable

_SEAL = frozenset(("sealed", "checksum"))
_EMPTY_CHECKSUM = '"checksum": ""'


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Gives a temporary name beside `path`; what was written to it becomes `path` at the end, or goes on an error.

    The temporary name is hidden, ends like `path` (libraries choose the format by the suffix), is one that UTF-8 can
    write (libraries take no other) and holds a number that no other writer has, on this machine or another. The content
    is on the disk before the name changes. Missing parent folders are made. The file's mode follows the umask, whatever
    mode a library gave it.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    beside = path.with_name(printable(f".{path.stem}.{unique_number()}{path.suffix}"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        sync_to_disk(beside)
        apply_umask(beside)
        beside.replace(path)
        sync_to_disk(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written: {reason}. What stood there before is whole.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def unique_number() -> str:
    """Digits for a temporary name: the process number, and more that no other process or thread has drawn."""
    return f"{os.getpid()}{secrets.randbelow(10**12):012d}"


def apply_umask(path: Path) -> None:
    """Gives a file the mode that a new one gets, whatever mode a library gave it."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    # The system tells it only where it is set; a thread that makes a file meanwhile must not get another.
    status = Path("/proc/self/status")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is whole or absent."""
    with atomic_path(path) as beside:
        beside.write_text(json_text(value, indent=1) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Writes a table that is whole or absent; what UTF-8 cannot write of a name is escaped."""
    with (
        atomic_path(path) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows(rows)


def write_checksummed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object that carries the sha256 of its own text, so that no flipped byte in it goes unnoticed."""
    content = {"sealed": True, **{key: item for key, item in value.items() if key not in _SEAL}}
    text = json_text({**content, "checksum": ""}, indent=1) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    start, end = text.rsplit(_EMPTY_CHECKSUM, 1)
    with atomic_path(path) as beside:
        beside.write_text(f'{start}"checksum": "{digest}"{end}', encoding="utf-8")


def read_checksummed(path: Path, require_checksum: bool = False) -> dict[str, Any]:
    """Reads a JSON object and holds it against the checksum that `write_checksummed` gave it; without that checksum.

    Args:
        path: the file.
        require_checksum: False takes an object without checksum too, as somebody writes it by hand.

    Raises:
        UserError: it cannot be read, is no object, or was damaged or edited.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    # Two marks, so that a flipped byte in one of them does not pass for a file without checksum.
    if require_checksum or not _SEAL.isdisjoint(content):
        text = path.read_text(encoding="utf-8")
        start, mark, end = text.rpartition(f'"checksum": "{content.get("checksum")}"')
        if not mark or hashlib.sha256(f"{start}{_EMPTY_CHECKSUM}{end}".encode()).hexdigest() != content["checksum"]:
            raise UserError(
                f"{path} was damaged or edited: its checksum is not that of its text. Copy it again; if you edited it, "
                'remove its entries "sealed" and "checksum"'
            )
    return {key: value for key, value in content.items() if key not in _SEAL}


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: it is missing, unreadable or not JSON (with line and column).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no JSON text: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno} is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        # A whole number of more than 4300 digits; brackets without end.
        raise UserError(f"{path} is no JSON that can be read: {str(error).splitlines()[0]}") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_to_disk(path: Path) -> None:
    """Returns when a file's content, or a folder's names, are on the disk; raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_unique_folder(root: Path, name: str) -> Path:
    """Makes `root/name`, or the first of `root/name_2`, `root/name_3`, ... that does not exist, and returns its path.

    Raises:
        UserError: it cannot be written.
    """
    path, number = root / name, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
            path = root / f"{name}_{number}"
        except OSError as error:
            raise UserError(f"{path} cannot be made: {error.strerror or error}") from error


def timestamped_folder(root: Path, what: str) -> Path:
    """Makes `root/WHAT_DATE_TIME`, a folder that no other command has, and returns its path.

    Raises:
        UserError: it cannot be written.
    """
    return make_unique_folder(root, f"{what}_{datetime.now():%Y-%m-%d_%H-%M-%S}")
