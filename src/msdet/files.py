"""Atomic file writing (temporary file, fsync, rename), checksummed JSON, and unique folders."""

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
    """Yields a temporary path in the folder of `path`; the file written there is renamed to `path` at the end, or
    deleted on an error.

    The temporary name is hidden, has the suffix of `path` (libraries choose the format by it), is valid UTF-8 and is
    unique among processes and machines. The content is synced to disk before the rename. Parent folders are created.
    The file mode follows the umask, whatever mode a library set.

    Raises:
        UserError: the disk is full or the folder is not writable.
    """
    path = Path(path)
    temporary = path.with_name(printable(f".{path.stem}.{unique_number()}{path.suffix}"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync_to_disk(temporary)
        apply_umask(temporary)
        temporary.replace(path)
        sync_to_disk(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written: {reason}. A previous version of it is unchanged.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def unique_number() -> str:
    """Digits for a temporary name, unique among processes and threads: the process id and a random number."""
    return f"{os.getpid()}{secrets.randbelow(10**12):012d}"


def apply_umask(path: Path) -> None:
    """Sets the mode that a newly created file has."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    # os.umask can only read the value by setting it, which would affect files that other threads create meanwhile.
    status = Path("/proc/self/status")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(value, indent=1) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file atomically; characters that UTF-8 cannot encode are escaped."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows(rows)


def write_checksummed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object that contains the SHA-256 of its own text, so that every corrupt byte is detected."""
    content = {"sealed": True, **{key: item for key, item in value.items() if key not in _SEAL}}
    text = json_text({**content, "checksum": ""}, indent=1) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    start, end = text.rsplit(_EMPTY_CHECKSUM, 1)
    with atomic_path(path) as temporary:
        temporary.write_text(f'{start}"checksum": "{digest}"{end}', encoding="utf-8")


def read_checksummed(path: Path, require_checksum: bool = False) -> dict[str, Any]:
    """Reads a JSON object and verifies the checksum of `write_checksummed`, which is not part of the result.

    Args:
        path: the file.
        require_checksum: False also accepts an object without a checksum, such as one written by hand.

    Raises:
        UserError: the file is unreadable, not a JSON object, corrupt or edited.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    # Two entries, so that a corrupt byte in one of them does not make the file look like one without checksum.
    if require_checksum or not _SEAL.isdisjoint(content):
        text = path.read_text(encoding="utf-8")
        start, mark, end = text.rpartition(f'"checksum": "{content.get("checksum")}"')
        if not mark or hashlib.sha256(f"{start}{_EMPTY_CHECKSUM}{end}".encode()).hexdigest() != content["checksum"]:
            raise UserError(
                f"{path} is corrupt or was edited: its checksum does not match. Copy it again; if you edited it, "
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
        raise UserError(f"{path} is not JSON: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno} is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        # An integer of more than 4300 digits; too deep nesting.
        raise UserError(f"{path} is JSON that cannot be read: {str(error).splitlines()[0]}") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as a hexadecimal string."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_to_disk(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk (fsync); raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_unique_folder(root: Path, name: str) -> Path:
    """Creates `root/name`, or the first of `root/name_2`, `root/name_3`, ... that does not exist; returns its path.

    Raises:
        UserError: `root` is not writable.
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
            raise UserError(f"{path} cannot be created: {error.strerror or error}") from error


def timestamped_folder(root: Path, what: str) -> Path:
    """Creates a new folder `root/WHAT_DATE_TIME`; returns its path.

    Raises:
        UserError: `root` is not writable.
    """
    return make_unique_folder(root, f"{what}_{datetime.now():%Y-%m-%d_%H-%M-%S}")
