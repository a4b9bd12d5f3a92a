"""What libjpeg complains of while it decodes: it writes to stderr, knows no file names, and goes on."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_COMPLAINT = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression")


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """Collects the complaints of libjpeg in all threads while the block runs; the list is filled when it ends.

    Whatever else is written to stderr meanwhile appears there afterwards.
    """
    complaints: list[str] = []
    try:
        kept = os.dup(2)
    except OSError:
        # Without a stderr there is nothing to be heard.
        yield complaints
        return
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            yield complaints
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                text = line.decode(errors="replace").strip()
                if _COMPLAINT.match(text):
                    complaints.append(text)
                elif text:
                    os.write(2, line)
