"""Exports a checkpoint: python export.py --config configs/yolov3.yaml --ckpt_file FILE --file_format MINDIR."""

import sys
from pathlib import Path

# A checkout runs its own code, whether it is installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from msdet.cli import command, run

main = command("export")

if __name__ == "__main__":
    sys.exit(run("export"))
