"""Memory of the last step of an evaluation, from raw scores to detections on disk, over many images:
`python -m benchmarks.postprocess_memory`.

RefineDet needs most: 6,375 boxes of 80 classes per image, nearly all of which pass a score of 0.01, and 500 are
kept. The outputs are synthetic (see `benchmarks.postprocess`) and repeat; their detections are written as by an
evaluation. Prints the resident memory of the process after each fifth of the images, and the
peak so far: both should stay constant after the first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.efficientdet_memory import memory_mb
from benchmarks.postprocess import REFINEDET, synthetic_outputs
from msdet.evaluation.result_file import DetectionWriter
from msdet.ops.postprocess import postprocess, warm_up

_DIFFERENT = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    images = parser.parse_args().images
    outputs = []
    for seed in range(_DIFFERENT):
        boxes, scores = synthetic_outputs(6375, 80, 1.0, seed)
        outputs.append((boxes, (scores**25).astype(np.float32)))
    warm_up()
    print(f"{'images':>7}{'detections':>12}{'resident MB':>13}{'highest MB':>12}{'ms an image':>13}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detections.json"
        started = time.perf_counter()
        with DetectionWriter(path, list(range(1, 81))) as writer:
            for number in range(1, images + 1):
                boxes, scores = outputs[number % _DIFFERENT]
                # A network's outputs are new arrays each time.
                writer.write(number, postprocess(boxes.copy(), scores.copy(), REFINEDET))
                if number % max(images // 5, 1) == 0:
                    each = (time.perf_counter() - started) / number * 1e3
                    now, most = memory_mb("VmRSS"), memory_mb("VmHWM")
                    print(f"{number:>7,}{writer.detections:>12,}{now:>13,}{most:>12,}{each:>13.1f}", flush=True)
        print(f"{path.stat().st_size / 1e6:.0f} MB on disk")


if __name__ == "__main__":
    main()
