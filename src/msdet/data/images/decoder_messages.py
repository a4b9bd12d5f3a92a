"""Captures the warnings of libjpeg about corrupt data, which it writes to stderr without a file name."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_WARNING = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression")


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """Collects the warnings of libjpeg in all threads during the block; the list is filled when the block ends.

    Other text written to stderr during the block is written to it afterwards.
    """
    warnings: list[str] = []
    try:
        kept = os.dup(2)
    except OSError:
        # The process has no stderr.
        yield warnings
        return
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            yield warnings
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                text = line.decode(errors="replace").strip()
                if _WARNING.match(text):
                    warnings.append(text)
                elif text:
                    os.write(2, line)
