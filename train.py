"""Trains a model: python train.py --config configs/yolov3.yaml --data_dir DIR."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from src.config import parse_command_line
from src.errors import run_command
from src.interrupts import hold_interrupts


def main(argv: Sequence[str]) -> int:
    cfg = parse_command_line(argv, "train")
    from src.engine.train import train

    return train(cfg)


if __name__ == "__main__":
    hold_interrupts()
    sys.exit(run_command(main))
