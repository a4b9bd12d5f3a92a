"""Peak memory of EfficientDet's criterion beyond its inputs: `python -m benchmarks.efficientdet_memory`.

Measures forward and backward pass. Raw maps are random, of the size for a 512 px input, and every image has
`--boxes` ground truths. Prints the peak resident memory of the process minus its memory when the
inputs were ready and a tiny case of the same graph had been compiled and run; compiling the full case and the two
gradients are included.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from msdet.models.efficientdet_d0.anchors import make_anchors
from msdet.models.efficientdet_d0.loss import EfficientDetCriterion

_TARGET_MB = 1200


def memory_mb(field: str) -> int:
    """VmRSS or VmHWM of this process in MB, from /proc."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) // 1000
    raise SystemExit(f"/proc/self/status has no {field}")


def synthetic_batch(size: int, batch: int, boxes: int, classes: int) -> tuple[Tensor, ...]:
    """Regression, logits, boxes, labels and size of a batch."""
    rng = np.random.default_rng(0)
    count = len(make_anchors(size, size))
    regression = rng.standard_normal((batch, count, 4), dtype=np.float32) * np.float32(0.3)
    logits = rng.standard_normal((batch, count, classes), dtype=np.float32) - 4
    corners = np.sort(rng.uniform(0, size, (batch, boxes, 2, 2)), axis=2).reshape(batch, boxes, 4).astype(np.float32)
    labels = rng.integers(0, classes, (batch, boxes)).astype(np.int32)
    return tuple(Tensor(array) for array in (regression, logits, corners, labels, np.float32([size, size])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--boxes", type=int, default=128, help="ground truths per image")
    parser.add_argument("--size", type=int, default=512, help="px")
    parser.add_argument("--classes", type=int, default=90)
    parser.add_argument("--force_match", action="store_true", help="as configs/efficientdet_d0.yaml")
    args = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    criterion = EfficientDetCriterion(args.classes, force_match=args.force_match)

    def loss(regression: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        class_loss, box_loss = criterion((regression, logits), boxes, labels, size)
        return class_loss + box_loss

    step = ms.value_and_grad(loss, (0, 1))
    step(*synthetic_batch(128, 1, 16, args.classes))[0].asnumpy()
    inputs = synthetic_batch(args.size, args.batch, args.boxes, args.classes)
    held = memory_mb("VmRSS")
    # Resets the peak, which would otherwise include creating the inputs.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    step(*inputs)[0].asnumpy()
    peak = memory_mb("VmHWM") - held
    started = time.perf_counter()
    step(*inputs)[0].asnumpy()
    seconds = time.perf_counter() - started
    in_mb = sum(tensor.nbytes for tensor in inputs) / 1e6
    print(f"batch {args.batch}, {args.size} px, {args.boxes} boxes per image, {args.classes} classes")
    print(f"inputs {in_mb:.0f} MB; peak of criterion forward and backward over them {peak} MB (target {_TARGET_MB})")
    print(f"second call {seconds:.2f} s")


if __name__ == "__main__":
    main()
