"""Scores a checkpoint: python eval.py --config configs/yolov3.yaml --data_dir DIR --pretrained FILE."""

import sys
from pathlib import Path

# A checkout runs its own code, whether it is installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from msdet.cli import command, run

main = command("eval")

if __name__ == "__main__":
    sys.exit(run("eval"))
