"""Runs code in a process limited to 300 MB more memory than after its imports."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Less than OpenCV and Pillow need for an image of 16,000 x 16,000 px.
WITHIN_300_MB = """
import resource, sys
from pathlib import Path
from msdet.data.images.decode import decode_image, read_image_size
from msdet.errors import UserError
import numpy as np

def size():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (size() + (300 << 20),) * 2)
"""


def limited(code, *arguments):
    """Output of `code`, run in a process limited to 300 MB."""
    command = [sys.executable, "-c", WITHIN_300_MB + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
