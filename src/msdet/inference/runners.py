"""One interface to run checkpoints and exported files with MindSpore or onnxruntime."""

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
from msdet.errors import UsageError, UserError
from msdet.export.onnx_session import session_options
from msdet.export.sidecar import read_sidecar
from msdet.export.spec import DecoderCell, DeployCell, ExportSpec, to_arrays
from msdet.models.recipe import get_recipe
from msdet.session.loaded_network import LoadedNetwork
from msdet.text import readable_path

if TYPE_CHECKING:
    from msdet.config import Config

ConfigT = TypeVar("ConfigT", bound="Config")


class Runner(ABC):
    """Computes boxes and scores (or class probabilities) of images.

    Attributes:
        cfg: configuration after the card or sidecar of the file.
        card: model, class names, category ids, preprocessing.
        spec: inputs and outputs of the file.
        size: (h, w) of the input in px.
        batch_size: batch size of the file; 0: dynamic. `predict` takes any number of images.
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
        """Runs the file once on its inputs; see `ExportSpec.inputs`."""

    def predict(self, images: np.ndarray, valid_sizes: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Runs any number of images.

        Args:
            images: uint8 (N, h, w, 3) RGB.
            valid_sizes: int32 (N, 2), height and width that each image covers from the top left; None: the full size.

        Returns:
            detectors: boxes float32 (N, K, 4) xyxy px of the input, scores float32 (N, K, C); classifiers:
            probabilities float32 (N, C).

        Raises:
            UserError: the size of the images is not that of the file.
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
        padding = max(self.batch_size - count, 0)
        if padding:
            # A fixed batch is padded, and the outputs of the padding are dropped.
            images = np.concatenate((images, np.zeros((padding, *images.shape[1:]), np.uint8)))
            valid_sizes = np.concatenate((valid_sizes, np.tile(np.array([self.size], np.int32), (padding, 1))))
        normalised = None
        if self._preprocess is not None:
            normalised = self._preprocess(Tensor(images), Tensor(valid_sizes)).asnumpy()
        outputs = self.forward(self.spec.inputs(images, valid_sizes, normalised))
        if self._finish is not None:
            outputs = to_arrays(self._finish(*map(Tensor, outputs)))
        return [output[:count] for output in outputs]

    def close(self) -> None:  # noqa: B027 (optional for subclasses)
        """Frees resources."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CheckpointRunner(Runner):
    """Runs a checkpoint with MindSpore."""

    def __init__(self, path: Path, cfg: Config) -> None:
        loaded = LoadedNetwork.load(cfg, path)
        spec = ExportSpec(loaded.cfg.testing_size, 0, preprocess=True, detect=True, valid_sizes=True)
        super().__init__(loaded.cfg, loaded.card, spec)
        self.cell = DeployCell(loaded.recipe, loaded.network, spec)

    def forward(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return to_arrays(self.cell(*map(Tensor, arrays)))


class ExportedRunner(Runner):
    """Base class for files of export.py, which are verified against their sidecar before they run.

    Attributes:
        sidecar: content of the sidecar.
    """

    def __init__(self, path: Path, cfg: Config) -> None:
        content, spec = read_sidecar(path)
        self.sidecar = content
        cfg = apply_card(cfg, content["config"], path, with_classes=True)
        if "testing_shape" in cfg.places and cfg.testing_size != spec.size and cfg.places["testing_shape"][:2] == "--":
            raise UsageError(
                f"{cfg.where('testing_shape')} is {cfg.testing_shape}, but {path} was exported for "
                f"{spec.size[0]} x {spec.size[1]} px: remove the flag, or export again"
            )
        super().__init__(cfg.replace(testing_shape=spec.size[0]), content["config"], spec)


def loading_error(path: Path, error: Exception) -> UserError:
    """The error for a file that its runtime cannot load."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path} cannot be loaded: {reason}\nExport it again; it may be from another version.")


def _onnx_errors() -> tuple[type[Exception], ...]:
    """Exceptions of onnxruntime: its own classes, RuntimeError and ValueError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)


class MindirRunner(ExportedRunner):
    """Runs a MINDIR file with MindSpore on CPU, GPU or Ascend."""

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
    """Runs an ONNX file with onnxruntime on the CPU."""

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
