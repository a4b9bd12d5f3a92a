"""What a model package must offer: its recipe."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msdet.config.model_table import package_of
from msdet.config.sections.quantization import QuantKeys, quantization_section

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn

    from msdet.config import Config
    from msdet.data.transforms.mosaic import Mosaic
    from msdet.data.transforms.pipeline import Pipeline
    from msdet.models.weight_names import WeightSource
    from msdet.ops.postprocess import PostprocessOptions


class Recipe(ABC):
    """How one model is put together from a resolved configuration (its classes are known).

    Attributes:
        cfg: the configuration.
        task: "detect" or "classify".
        PREPROCESS_KEYS: keys that say how an image becomes the network's input; they belong to the weights.
        NETWORK_KEYS: keys that say which network the weights belong to.
        EXPORT_TOLERANCE: largest relative error of a raw map in an exported ONNX file; other kernels round otherwise,
            and a deep network magnifies that.
    """

    PREPROCESS_KEYS: ClassVar[tuple[str, ...]] = ("mean", "std", "resize", "interpolation", "pad_value")
    NETWORK_KEYS: ClassVar[tuple[str, ...]] = ()
    EXPORT_TOLERANCE: ClassVar[float] = 1e-3
    task: ClassVar[str]

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    @abstractmethod
    def build_network(self) -> nn.Cell:
        """Cell: images (N, 3, H, W) float32, normalised -> tuple of raw maps, or the logits (N, C) of a classifier."""

    @abstractmethod
    def build_criterion(self) -> nn.Cell:
        """Cell: (what the network gives, the targets of the batch) -> losses; its attribute `loss_names` names them.

        The targets are the values of `arrays()` of the batch behind images and valid sizes.
        """

    @abstractmethod
    def build_decoder(self) -> nn.Cell:
        """Cell: (what the network gives, image size (h, w)) -> what is to be known of the images; it is exportable."""

    @abstractmethod
    def train_pipeline(self) -> Any:
        """Augmentation of training images: what `training_loader` takes for this task."""

    @abstractmethod
    def eval_pipeline(self) -> Pipeline:
        """The resize of evaluation, without randomness."""

    def mosaic(self) -> Mosaic | None:
        """What makes training images out of several; None: nothing."""
        return None

    def is_class_layer(self, name: str) -> bool:
        """Whether the shape of a parameter, by its name, depends on the classes: `filter_weight` leaves it out."""
        return False

    def first_epoch(self) -> int:
        """Epochs that the weights in `pretrained` were trained for: epochs and schedule are counted on from there."""
        return 0

    def weight_sources(self) -> Sequence[WeightSource]:
        """Files of other programs that this network can be filled from."""
        return ()

    def build_preprocess(self) -> nn.Cell:
        """Cell: uint8 images (N, H, W, 3) RGB, valid sizes int32 (N, 2) -> normalised (N, 3, H, W) float32."""
        from msdet.layers.preprocess import Preprocess

        return Preprocess(self.cfg.mean, self.cfg.std)

    def quantized(self, network: nn.Cell) -> nn.Cell:
        """The network with the roundings of int8 where `quantization_aware` asks for them, else as it is."""
        if not (isinstance(self.cfg, QuantKeys) and self.cfg.quantization_aware):
            return network
        from msdet.quantization.quantize import quantize

        return quantize(network, self.cfg)

    def card(self, category_ids: list[Any]) -> dict[str, Any]:
        """What is written beside a checkpoint: the keys that rebuild this network and feed it rightly.

        Args:
            category_ids: of the annotation file, by label.
        """
        values = self.cfg.to_dict()
        return {
            "model": self.cfg.model,
            "class_names": list(self.cfg.class_names),
            "num_classes": self.cfg.num_classes,
            "category_ids": category_ids,
            "label_map": self.cfg.label_map,
            "preprocess": {"channel_order": "RGB", **{name: values[name] for name in self.PREPROCESS_KEYS}},
            "network": {name: values[name] for name in self.NETWORK_KEYS},
            **quantization_section(values),
        }


class DetectionRecipe(Recipe):
    """A detector. The network gives a tuple of raw maps.

    Criterion: (raw maps, boxes (N, M, 4) xyxy px, labels (N, M) int32, -1 = padding, image size (h, w)) -> losses.
    Decoder: (raw maps, image size (h, w)) -> boxes (N, K, 4) xyxy px of the input, scores (N, K, C).
    """

    task: ClassVar[str] = "detect"

    @abstractmethod
    def train_pipeline(self) -> Pipeline:
        """Augmentation of training images."""

    @abstractmethod
    def postprocess_options(self) -> PostprocessOptions:
        """Thresholds and limits of the final detections."""

    def anchor_shapes(self) -> np.ndarray | None:
        """float64 (k, 2): width and height in px of the anchors that are assigned by these alone; None: there are
        none."""
        return None

    def anchors(self, size: tuple[int, int]) -> np.ndarray | None:
        """float32 (A, 4): centre x, centre y, width, height in px of the anchors that are assigned at their places, for
        an input of (h, w); None: there are none."""
        return None

    def test_options(self) -> PostprocessOptions:
        """As `postprocess_options`, for the result file of a test server."""
        return self.postprocess_options()


class ClassificationRecipe(Recipe):
    """A classifier. The network gives logits (N, C).

    Criterion: (logits, labels (N,) int32) -> losses. Decoder: (logits, image size (h, w)) -> probabilities (N, C).
    `train_pipeline` gives a `ClassTransform`, or a `Pipeline` as evaluation has.
    """

    task: ClassVar[str] = "classify"


def get_recipe(cfg: Config) -> Any:
    """The recipe of the model that a configuration names: a `DetectionRecipe` or a `ClassificationRecipe`.

    Raises:
        UsageError: there is no such model.
    """
    return _recipe_class(cfg)(cfg)


def task_of(cfg: Config) -> str:
    """What the model of a configuration does: "detect" or "classify".

    Raises:
        UsageError: there is no such model.
    """
    return _recipe_class(cfg).task


def _recipe_class(cfg: Config) -> type[Recipe]:
    return importlib.import_module(f"{package_of(cfg.model)}.recipe").Recipe
