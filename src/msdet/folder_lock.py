"""A lock on a folder, which the operating system releases when its process ends, however it ends."""

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
# Errors of file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class FolderInUse(Exception):
    """Another process holds the lock; the message names it."""


class FolderLock:
    """Locks a folder by an advisory lock (flock) on a hidden file in it; works on shared file systems too.

    Use it as a context manager, which releases the lock.

    Args:
        path: the folder; created if it does not exist.

    Attributes:
        is_held: False if the file system does not support locks: a warning is logged, and nothing is locked.

    Raises:
        FolderInUse: another process, or another object of this process, holds the lock.
        OSError: the folder is not writable.
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
            log.warning("the file system of %s has no locks: do not run a second command that writes to it", self.path)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, holder.encode(), 0)

    def _holder(self) -> str:
        try:
            holder = json.loads(os.pread(self._handle, 1000, 0))
            return f"process {int(holder['pid'])} on {holder['host']}"
        except (ValueError, KeyError, TypeError):
            return "a process that has just started"

    def close(self) -> None:
        """Releases the lock."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
