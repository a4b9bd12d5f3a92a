"""One process per script: the exit code reaches the system, and stderr has one line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "train.py": ("--config", "configs/yolov3.yaml", "--lerning_rate", "1"),
    "eval.py": ("--config", "configs/none.yaml"),
    "test.py": ("--config", "configs/yolov4.yaml", "--testing_shape", "100"),
    "export.py": ("--config", "configs/yolov3.yaml", "--file_format", "TFLITE"),
    "predict.py": ("--config", "configs/yolov3.yaml", "--draw_threshold", "2"),
    "postprocess.py": (),
    "import": ("--config", "configs/yolov3.yaml", "--source", "x", "--output", "y", "--lr", "fast"),
    "check": ("--config", "configs/yolov3.yaml", "--splits", "dev"),
    "create_data": ("--config", "configs/yolov3.yaml", "--splits", "dev"),
    "hccl_tools": ("--device_num", "eight"),
    "launch": ("run_everything",),
    "replay": ("/none",),
}


@pytest.mark.parametrize("script", COMMANDS)
def test_a_real_process(script):
    start = [script] if script.endswith(".py") else ["-m", "msdet", script]
    done = subprocess.run(
        [sys.executable, *start, *COMMANDS[script]], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == (1 if script == "replay" else 2), done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
