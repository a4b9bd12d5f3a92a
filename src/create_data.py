"""The old zoo's `python src/create_data.py`, which was EfficientDet's: see `msdet create_data`."""

import sys
from pathlib import Path

from msdet.cli import run

_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "efficientdet_d0.yaml"

if __name__ == "__main__":
    given = sys.argv[1:]
    named = any(word.partition("=")[0] == "--config" for word in given)
    sys.exit(run("create_data", given if named else [f"--config={_CONFIG}", *given]))
