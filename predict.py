"""Predicts on pictures: python predict.py --config configs/yolov3.yaml --pretrained FILE --source PICTURES."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from src.config import parse_command_line
from src.errors import run_command


def main(argv: Sequence[str]) -> int:
    cfg = parse_command_line(argv, "predict")
    from src.deploy.predict import predict

    return predict(cfg)


if __name__ == "__main__":
    sys.exit(run_command(main))
