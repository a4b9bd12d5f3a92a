"""Exports a checkpoint: python export.py --config configs/yolov3.yaml --ckpt_file FILE --file_format MINDIR."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from src.config import parse_command_line
from src.errors import run_command


def main(argv: Sequence[str]) -> int:
    cfg = parse_command_line(argv, "export")
    from src.deploy.export import export

    return export(cfg)


if __name__ == "__main__":
    sys.exit(run_command(main))
