"""The implementations of the benchmarks that run networks; each runs in a process of its own.

All implementations of a case have the same weights and inputs. `prepare` writes them and the ONNX file to a folder;
`prepared` runs it in a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workers import Compute, Worker

if TYPE_CHECKING:
    from mindspore import nn

CLASSES = {"classifier": 1000, "yolov3": 80}
# A narrow network for quick runs.
_NARROW = ((4, 4, 8, 8, 16, 16), (1, 1, 1, 1, 1))
_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.01, 0.9, 5e-4


@contextmanager
def prepared(name: str, size: int, narrow: bool) -> Iterator[dict[str, Any]]:
    """Arguments of the sides of one case; its files are in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"name": name, "size": size, "narrow": narrow, "folder": folder}
        with Worker("benchmarks.networks:prepare", arguments, capped=True) as worker:
            worker.compute(Path(folder) / "none.npz")
        yield arguments


def build(name: str, narrow: bool) -> nn.Cell:
    """This project's network `classifier` or `yolov3`, in inference mode."""
    import mindspore as ms

    from msdet.models.darknet53.network import Classifier, DarkNet53
    from msdet.models.yolov3_quant.network import YoloV3

    ms.set_context(mode=ms.GRAPH_MODE)
    backbone = DarkNet53(*(_NARROW if narrow else ()))
    network = Classifier(backbone, CLASSES[name]) if name == "classifier" else YoloV3(backbone, CLASSES[name])
    network.set_train(False)
    return network


def init_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Random weights with which the outputs depend on the image: He initialization, moderate batch-norm statistics.

    Args:
        shapes: by MindSpore parameter names.
    """
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in shapes.items():
        kind = name.rpartition(".")[2]
        if kind == "weight":
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 1.0, shape)
        else:
            values = rng.standard_normal(shape) * 0.1
        weights[name] = values.astype(np.float32)
    return weights


def images(size: int, batch: int = 1) -> np.ndarray:
    """Standard normal float32 (N, 3, size, size), like normalized images."""
    return np.random.default_rng(1).standard_normal((batch, 3, size, size), dtype=np.float32)


def prepare(name: str, size: int, narrow: bool, folder: str) -> Compute:
    """Returns a function that writes weights.npz and net.onnx."""
    from mindspore import Tensor, onnx

    from msdet.export.onnx_graph import finalize_onnx

    def write() -> list[np.ndarray]:
        network = build(name, narrow)
        weights = init_weights({p.name: p.shape for p in network.get_parameters()})
        np.savez(Path(folder) / "weights.npz", **weights)
        _fill(network, weights)
        file = Path(folder) / "net.onnx"
        onnx.export(network, Tensor(images(size)), file_name=str(file))
        finalize_onnx(file, ["images"], ["logits"] if name == "classifier" else ["raw_0", "raw_1", "raw_2"])
        return []

    return write


def mindspore_side(name: str, size: int, narrow: bool, folder: str) -> Compute:
    """This project's network, compiled as a graph."""
    from mindspore import Tensor

    network = build(name, narrow)
    _fill(network, _weights(folder))
    x = Tensor(images(size))

    def forward() -> list[np.ndarray]:
        outputs = network(x)
        return [output.asnumpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return forward


def torch_side(name: str, size: int, narrow: bool, folder: str) -> Compute:
    """The same network in PyTorch."""
    import torch

    from benchmarks import torch_models

    model = torch_models.build(name, _weights(folder)).eval()
    x = torch.from_numpy(images(size))

    def forward() -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in model(x)]

    return forward


def onnxruntime_side(name: str, size: int, narrow: bool, folder: str) -> Compute:
    """The exported network in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(Path(folder) / "net.onnx"), providers=["CPUExecutionProvider"])
    inputs = {"images": images(size)}
    return lambda: session.run(None, inputs)


def training_batch(size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, size, size, 3) and labels int32 (N,)."""
    rng = np.random.default_rng(2)
    inputs = rng.integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
    return inputs, rng.integers(0, CLASSES["classifier"], batch).astype(np.int32)


def mindspore_training(name: str, size: int, batch: int, narrow: bool, folder: str) -> Compute:
    """One training step of the classifier: normalisation, forward, loss, backward, SGD."""

    from msdet.layers.preprocess import Preprocess
    from msdet.models.darknet53.loss import SmoothedCrossEntropy
    from msdet.training.step import LossCell, StepOptions, TrainStep

    network = build(name, narrow)
    _fill(network, _weights(folder))
    criterion = SmoothedCrossEntropy(CLASSES[name])
    cell = LossCell(Preprocess([0.5] * 3, [0.25] * 3), network, criterion)
    step = TrainStep(cell, StepOptions(_MOMENTUM, _WEIGHT_DECAY))
    step.set_train(True)
    inputs, labels = training_batch(size, batch)
    valid_sizes = np.tile(np.int32([[size, size]]), (batch, 1))

    def train() -> list[np.ndarray]:
        return [np.float32(step.run((inputs, valid_sizes, labels), _RATE).losses[0])]

    return train


def torch_training(name: str, size: int, batch: int, narrow: bool, folder: str) -> Compute:
    """The same step in PyTorch."""
    import torch
    from torch.nn import functional

    from benchmarks import torch_models

    del narrow
    model = torch_models.build(name, _weights(folder)).train()
    plain = [p for p in model.parameters() if p.ndim == 1]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=_RATE, momentum=_MOMENTUM)
    inputs, labels = training_batch(size, batch)
    bytes_, targets = torch.from_numpy(inputs), torch.from_numpy(labels).long()

    def train() -> list[np.ndarray]:
        x = (bytes_.permute(0, 3, 1, 2).contiguous().float() / 255 - 0.5) / 0.25
        loss = functional.cross_entropy(model(x)[0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss.detach().numpy()]

    return train


def _weights(folder: str) -> dict[str, np.ndarray]:
    with np.load(Path(folder) / "weights.npz") as arrays:
        return dict(arrays)


def _fill(network: nn.Cell, weights: Mapping[str, np.ndarray]) -> None:
    from mindspore import Tensor

    for parameter in network.get_parameters():
        parameter.set_data(Tensor(weights[parameter.name]))
