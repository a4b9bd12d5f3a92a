"""Makes the result file for COCO's test-dev server: python test.py --config configs/yolov4.yaml --data_dir DIR
--pretrained FILE."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from src.config import parse_command_line
from src.errors import run_command


def main(argv: Sequence[str]) -> int:
    cfg = parse_command_line(argv, "test")
    from src.engine.test_dev import test_dev

    return test_dev(cfg)


if __name__ == "__main__":
    sys.exit(run_command(main))
