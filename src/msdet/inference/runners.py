"""One interface to everything that computes detections: checkpoints, MINDIR, ONNX and .om files, and who runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights
from msdet.errors import UsageError, UserError
from msdet.export.onnx_session import session_options
from msdet.export.sidecar import read_sidecar
from msdet.export.spec import DecoderCell, DeployCell, ExportSpec, to_arrays
from msdet.models.recipe import get_recipe
from msdet.text import readable_path

if TYPE_CHECKING:
    from msdet.config import Config

ConfigT = TypeVar("ConfigT", bound="Config")


class Runner(ABC):
    """Images to boxes and scores (or class probabilities), whatever does the computing.

    Attributes:
        cfg: configuration, after what the file says of itself.
        card: model, class names, category ids, preprocessing.
        spec: what the file takes and gives.
        size: (h, w) of the input in px.
        batch_size: images a call of the file; 0 = any. `predict` takes any number.
    """

    def __init__(self, cfg: Config, card: Mapping[str, Any], spec: ExportSpec) -> None:
        self.cfg = cfg
        self.card = card
        self.spec = spec
        self.size = spec.size
        self.batch_size = spec.batch_size
        recipe = get_recipe(cfg)
        self._preprocess = None if spec.preprocess else recipe.build_preprocess()
        self._finish = None if spec.detect else DecoderCell(recipe, spec.size)

    @abstractmethod
    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Runs the file once on the arrays that its spec asks for."""

    def predict(self, images: np.ndarray, valid_sizes: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Runs any number of images.

        Args:
            images: uint8 (N, h, w, 3) RGB.
            valid_sizes: int32 (N, 2), height and width that each image covers from the top left; None: all of it.

        Returns:
            detectors: boxes float32 (N, K, 4) xyxy px of the input, scores float32 (N, K, C); classifiers:
            probabilities float32 (N, C).

        Raises:
            UserError: the images have another size than the file takes.
        """
        if images.shape[1:] != (*self.size, 3) or images.dtype != np.uint8:
            raise UserError(f"images are {images.dtype} {images.shape[1:]}; this file takes uint8 {(*self.size, 3)}")
        if valid_sizes is None:
            valid_sizes = np.tile(np.array([self.size], np.int32), (len(images), 1))
        step = self.batch_size or len(images)
        parts = [self._one_batch(images[i : i + step], valid_sizes[i : i + step]) for i in range(0, len(images), step)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _one_batch(self, images: np.ndarray, valid_sizes: np.ndarray) -> list[np.ndarray]:
        count = len(images)
        lacking = max(self.batch_size - count, 0)
        if lacking:
            # A fixed batch is filled up; what the filling gives is cut off again.
            images = np.concatenate((images, np.zeros((lacking, *images.shape[1:]), np.uint8)))
            valid_sizes = np.concatenate((valid_sizes, np.tile(np.array([self.size], np.int32), (lacking, 1))))
        normalised = None
        if self._preprocess is not None:
            normalised = self._preprocess(Tensor(images), Tensor(valid_sizes)).asnumpy()
        outputs = self.forward(self.spec.inputs(images, valid_sizes, normalised))
        if self._finish is not None:
            outputs = to_arrays(self._finish(*map(Tensor, outputs)))
        return [output[:count] for output in outputs]

    def close(self) -> None:  # noqa: B027 (most have nothing to do)
        """Frees what the file holds."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CheckpointRunner(Runner):
    """A checkpoint, by MindSpore."""

    def __init__(self, path: Path, cfg: Config) -> None:
        weights, card = load_weights(path)
        cfg = apply_card(cfg, card, path, with_classes=True)
        if not cfg.num_classes:
            raise UsageError(f"{path} has no card that tells its classes: give --num_classes or --class_names")
        recipe = get_recipe(cfg)
        spec = ExportSpec(cfg.testing_size, 0, preprocess=True, detect=True, valid_sizes=True)
        super().__init__(cfg, card or recipe.card(list(range(1, cfg.num_classes + 1))), spec)
        network = recipe.build_network()
        fill_network(network, weights, path, "Is this a checkpoint of another model or another width?")
        network.set_train(False)
        self.cell = DeployCell(recipe, network, spec)

    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return to_arrays(self.cell(*map(Tensor, arrays)))


class ExportedRunner(Runner):
    """A file of export.py, verified against its sidecar before it runs.

    Attributes:
        sidecar: what that says.
    """

    def __init__(self, path: Path, cfg: Config) -> None:
        content, spec = read_sidecar(path)
        self.sidecar = content
        cfg = apply_card(cfg, content["config"], path, with_classes=True)
        if "testing_shape" in cfg.places and cfg.testing_size != spec.size and cfg.places["testing_shape"][:2] == "--":
            raise UsageError(
                f"{cfg.where('testing_shape')} is {cfg.testing_shape}, but {path} was exported for "
                f"{spec.size[0]} x {spec.size[1]} px: leave it out, or export again"
            )
        super().__init__(cfg.replace(testing_shape=spec.size[0]), content["config"], spec)


def loading_error(path: Path, error: Exception) -> UserError:
    """The message about a file that its runtime refuses."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path} cannot be loaded: {reason}\nExport it again; it may come from another version.")


def _onnx_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes of its own beside RuntimeError and ValueError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)


class MindirRunner(ExportedRunner):
    """A MINDIR file, by MindSpore on CPU, GPU or Ascend."""

    def __init__(self, path: Path, cfg: Config) -> None:
        super().__init__(path, cfg)
        try:
            with readable_path(path, copy=True) as name:
                self.cell = nn.GraphCell(ms.load(name))
        except (RuntimeError, ValueError, TypeError) as error:
            raise loading_error(path, error) from error

    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return to_arrays(self.cell(*map(Tensor, arrays)))


class OnnxRunner(ExportedRunner):
    """An ONNX file, by onnxruntime on the CPU."""

    def __init__(self, path: Path, cfg: Config) -> None:
        super().__init__(path, cfg)
        import onnxruntime

        try:
            with readable_path(path) as name:
                self.session = onnxruntime.InferenceSession(name, session_options(), providers=["CPUExecutionProvider"])
        except _onnx_errors() as error:
            raise loading_error(path, error) from error
        self.names = [value.name for value in self.session.get_inputs()]

    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return self.session.run(None, dict(zip(self.names, arrays, strict=True)))
