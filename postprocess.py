"""Scores an exported file, or result files of another program: python postprocess.py --config configs/yolov3.yaml
--data_dir DIR --pretrained FILE.mindir."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from src.config import parse_command_line
from src.errors import run_command


def main(argv: Sequence[str]) -> int:
    cfg = parse_command_line(argv, "postprocess")
    from src.deploy.score import score

    return score(cfg)


if __name__ == "__main__":
    sys.exit(run_command(main))
