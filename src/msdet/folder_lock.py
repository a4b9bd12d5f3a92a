"""A lock on a folder, of which the system lets go when the process that holds it ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
# A file system that knows no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class FolderInUse(Exception):
    """Another process holds the folder; the text names it."""


class FolderLock:
    """Holds a folder: an advisory lock (flock) on a hidden file in it, on shared file systems too.

    A context manager, which lets the folder go.

    Attributes:
        is_held: False where the file system knows no locks: it is said in the log, and any number of processes go on.

    Args:
        path: the folder; made if it does not exist.

    Raises:
        FolderInUse: another process, or another object of this one, holds it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_held = True
        path.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(self._holder()) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self.is_held = False
            log.warning("%s lies where no file can be locked: let no second command write to it", self.path)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, holder.encode(), 0)

    def _holder(self) -> str:
        try:
            holder = json.loads(os.pread(self._handle, 1000, 0))
            return f"process {int(holder['pid'])} on {holder['host']}"
        except (ValueError, KeyError, TypeError):
            return "a process that has just begun"

    def close(self) -> None:
        """Lets another process take the folder."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
