"""Cost of int8 in training and its gain in inference: `python benchmarks/run.py int8`.

YOLOv3 at full width, 416 px, 80 classes, random weights: the float ONNX file against the int8 one made from it (size,
time per image, convolutions that onnxruntime computes with integers), and a quantization-aware training step against
a float one. For the accuracy of int8 see benchmarks/int8_accuracy.sh.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.networks import CLASSES, images, init_weights, prepared
from benchmarks.report import SHARE, SPEEDUP, VALUE, Goal, Options, Result, Row
from benchmarks.side_by_side import alternate_all
from benchmarks.workers import Side, alternate_workers, open_workers

if TYPE_CHECKING:
    from benchmarks.workers import Compute

FLOAT, INT8, FAST = "float ONNX", "int8 ONNX", "int8 ONNX, sums of 16 bits"
PLAIN_STEP, QUANT_STEP = "float step", "quantization-aware step"
WHAT = "YOLOv3, 416 px"
_CALIBRATION_IMAGES = 3


def measure(options: Options) -> Result:
    """Measures files, inference and training step."""
    result = Result()
    size = 64 if options.quick else 416
    with prepared("yolov3", size, options.quick) as arguments:
        _inference(result, options, Path(arguments["folder"]), size)
        steps = {
            PLAIN_STEP: Side("benchmarks.int8:float_step", capped=True),
            QUANT_STEP: Side("benchmarks.int8:quantized_step", capped=True),
        }
        given = {"size": size, "narrow": options.quick}
        with open_workers(steps, given) as workers:
            for worker in workers.values():
                worker.compute(Path(arguments["folder"]) / "losses.npz")
            seconds = alternate_workers(workers, options.count(5), calls=2)
    what = f"{WHAT}, batch 2, training step"
    medians = result.keep(what, seconds, 1000)
    result.compare(what, "ms", medians, QUANT_STEP, PLAIN_STEP, [Goal(SHARE, at_most=1.7)])
    return result


def _inference(result: Result, options: Options, folder: Path, size: int) -> None:
    from msdet.export.int8.graph import count_operators
    from msdet.export.onnx_session import has_vnni, session_options

    convolutions = to_int8(folder, size)
    files = {FLOAT: folder / "net.onnx", INT8: folder / "int8.onnx"}
    megabytes = {side: file.stat().st_size / 1e6 for side, file in files.items()}
    share = megabytes[INT8] / megabytes[FLOAT]
    result.rows.append(
        Row(f"{WHAT}, file", "of the float file", INT8, share, goals=(Goal(VALUE, at_most=0.27),),
            note=f"{megabytes[INT8]:.1f} MB, {megabytes[FLOAT]:.1f} MB")
    )  # fmt: skip
    integer = count_operators(files[INT8])["QLinearConv"]
    # All but the three prediction layers.
    goal = Goal(VALUE, at_least=convolutions - 3)
    result.rows.append(Row(f"{WHAT}, convolutions in int8", f"of {convolutions}", INT8, integer, goals=(goal,)))
    sides = {
        FLOAT: _session(files[FLOAT], session_options(), size),
        INT8: _session(files[INT8], session_options(), size),
    }
    if not has_vnni():
        sides[FAST] = _session(files[INT8], None, size)
    medians = result.keep(f"{WHAT}, forward", alternate_all(sides, options.count(15)), 1000)
    reason = "" if has_vnni() else "not applicable: this processor has no VNNI"
    result.compare(f"{WHAT}, forward", "ms", medians, INT8, FLOAT, [Goal(SPEEDUP, at_least=1.9, reason=reason)])
    result.compare(f"{WHAT}, forward", "ms", medians, FAST, FLOAT)
    result.notes.append(
        "This processor has VNNI." if has_vnni() else
        "This processor has no VNNI, which multiplies four pairs of int8 at once and sums them in 32 bits. The project "
        "runs int8 files here with exact sums; the default of onnxruntime is faster but saturates sums at 16 bits."
    )  # fmt: skip


def to_int8(folder: Path, size: int) -> int:
    """Writes int8.onnx next to net.onnx, calibrated on noise; returns the number of convolutions."""
    import onnx

    from msdet.export.int8.graph import (
        WeightRule,
        fold_batch_norm,
        insert_grids,
        propagate_grids,
        raise_opset,
        tensors_to_calibrate,
    )  # fmt: skip
    from msdet.export.int8.post_training import calibrate_grids

    model = raise_opset(onnx.load(str(folder / "net.onnx")))
    fold_batch_norm(model)
    onnx.save(model, str(folder / "folded.onnx"))
    batches = ([images(size)] for _ in range(_CALIBRATION_IMAGES))
    grids = calibrate_grids(folder / "folded.onnx", tensors_to_calibrate(model), batches)
    insert_grids(model, propagate_grids(model, grids), WeightRule())
    onnx.save(model, str(folder / "int8.onnx"))
    return sum(node.op_type == "Conv" for node in model.graph.node)


def _session(file: Path, options: object, size: int) -> Compute:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs = {"images": images(size)}
    return lambda: session.run(None, inputs)


def float_step(size: int, narrow: bool) -> Compute:
    """A training step of the float network."""
    return _step(size, narrow, is_quantized=False)


def quantized_step(size: int, narrow: bool) -> Compute:
    """The same step with fake quantization."""
    return _step(size, narrow, is_quantized=True)


def _step(size: int, narrow: bool, is_quantized: bool) -> Compute:
    import mindspore as ms
    from mindspore import Tensor

    from msdet.config import load_config
    from msdet.models.recipe import get_recipe
    from msdet.training.step import LossCell, StepOptions, TrainStep

    ms.set_context(mode=ms.GRAPH_MODE)
    flags = ["--backbone_shape=4,4,8,8,16,16", "--backbone_layers=1,1,1,1,1"] if narrow else []
    flags += [f"--num_classes={CLASSES['yolov3']}", f"--quantization_aware={is_quantized}"]
    recipe = get_recipe(load_config("configs/yolov3.yaml", flags))
    network = recipe.build_network()
    values = init_weights({p.name: p.shape for p in network.trainable_params()})
    for parameter in network.trainable_params():
        parameter.set_data(Tensor(values[parameter.name]))
    cell = LossCell(recipe.build_preprocess(), network, recipe.build_criterion())
    step = TrainStep(cell, StepOptions(0.9, 5e-4, clip_norm=30))
    step.set_train(True)
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    boxes = np.tile(np.float32([[[0.1, 0.1, 0.6, 0.7]]]) * size, (2, 8, 1))
    labels = np.tile(np.int32([[3] * 4 + [-1] * 4]), (2, 1))
    valid_sizes = np.tile(np.int32([[size, size]]), (2, 1))
    batch = (inputs, valid_sizes, boxes, labels, np.float32([size, size]))

    def train() -> list[np.ndarray]:
        return [np.float32(step.run(batch, rate=1e-4).losses)]

    return train
