"""The interface of a model package: its recipe."""

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
    """Builds the parts of one model from a resolved configuration (its classes are known).

    Attributes:
        cfg: the configuration.
        task: "detect" or "classify".
        PREPROCESS_KEYS: keys of the preprocessing, which belongs to the weights.
        NETWORK_KEYS: keys of the architecture that the weights belong to.
        EXPORT_TOLERANCE: maximum relative error of a raw map in an exported ONNX file. Other kernels round differently,
            and a deep network amplifies that.
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
        """Cell: (output of the network, targets of the batch) -> losses, named by its attribute `loss_names`.

        The targets are those items of the batch's `arrays()` that follow images and valid sizes.
        """

    @abstractmethod
    def build_decoder(self) -> nn.Cell:
        """Cell: (output of the network, image size (h, w)) -> predictions; it is exportable."""

    @abstractmethod
    def train_pipeline(self) -> Any:
        """Augmentation of training images, as `training_loader` takes it for this task."""

    @abstractmethod
    def eval_pipeline(self) -> Pipeline:
        """Deterministic resize of images for evaluation."""

    def mosaic(self) -> Mosaic | None:
        """Combines several training images into one; None: not used."""
        return None

    def is_class_layer(self, name: str) -> bool:
        """Whether a parameter (by name) depends on the classes; `filter_weight` does not load such parameters."""
        return False

    def weight_sources(self) -> Sequence[WeightSource]:
        """Weights files of other programs that can be imported into this network."""
        return ()

    def build_preprocess(self) -> nn.Cell:
        """Cell: uint8 images (N, H, W, 3) RGB, valid sizes int32 (N, 2) -> normalised (N, 3, H, W) float32."""
        from msdet.layers.preprocess import Preprocess

        return Preprocess(self.cfg.mean, self.cfg.std)

    def quantized(self, network: nn.Cell) -> nn.Cell:
        """The network with fake quantization if `quantization_aware` is set, else unchanged."""
        if not (isinstance(self.cfg, QuantKeys) and self.cfg.quantization_aware):
            return network
        from msdet.quantization.quantize import quantize

        return quantize(network, self.cfg)

    def card(self, category_ids: list[Any]) -> dict[str, Any]:
        """Content of the card of a checkpoint: what is needed to rebuild this network and preprocess its input.

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
    """A detector; its network returns a tuple of raw maps.

    Criterion: (raw maps, boxes (N, M, 4) xyxy px, labels (N, M) int32, -1 = padding, image size (h, w)) -> losses.
    Decoder: (raw maps, image size (h, w)) -> boxes (N, K, 4) xyxy px of the input, scores (N, K, C).
    """

    task: ClassVar[str] = "detect"

    @abstractmethod
    def train_pipeline(self) -> Pipeline:
        """Augmentation of training images."""

    def eval_pipeline(self) -> Pipeline:
        from msdet.data.transforms.pipeline import plain_pipeline

        return plain_pipeline(self.cfg.resize, self.cfg.interpolation, self.cfg.pad_value)

    def postprocess_options(self) -> PostprocessOptions:
        """Thresholds and limits of the final detections."""
        from msdet.ops.postprocess import PostprocessOptions

        cfg = self.cfg
        return PostprocessOptions(
            score_threshold=cfg.eval_ignore_threshold,
            nms_threshold=cfg.nms_thresh,
            nms_type=cfg.nms_type,
            max_detections=cfg.max_detections,
            multi_label=cfg.multi_label,
        )

    def anchor_sizes(self) -> np.ndarray | None:
        """float64 (k, 2): width and height in px of anchors that are matched by size alone, as in YOLO; else None."""
        return None

    def anchors(self, size: tuple[int, int]) -> np.ndarray | None:
        """float32 (A, 4): centre x, centre y, width, height in px of anchors that are matched by IoU at their places.

        Args:
            size: (h, w) of the input.

        Returns:
            None if the model has no such anchors.
        """
        return None

    def test_options(self) -> PostprocessOptions:
        """`postprocess_options` for the result file of a test server."""
        return self.postprocess_options()


class ClassificationRecipe(Recipe):
    """A classifier; its network returns logits (N, C).

    Criterion: (logits, labels (N,) int32) -> losses. Decoder: (logits, image size (h, w)) -> probabilities (N, C).
    `train_pipeline` returns a `ClassTransform`, or without augmentation the `Pipeline` of evaluation.
    """

    task: ClassVar[str] = "classify"


def get_recipe(cfg: Config) -> Any:
    """The recipe of the model of a configuration: a `DetectionRecipe` or a `ClassificationRecipe`.

    Raises:
        UsageError: the model is unknown.
    """
    return _recipe_class(cfg)(cfg)


def task_of(cfg: Config) -> str:
    """Task of the model of a configuration: "detect" or "classify".

    Raises:
        UsageError: the model is unknown.
    """
    return _recipe_class(cfg).task


def _recipe_class(cfg: Config) -> type[Recipe]:
    return importlib.import_module(f"{package_of(cfg.model)}.recipe").Recipe
