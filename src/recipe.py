"""What a model package must offer, and the table of models."""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from src.config_quant import quantization_section
from src.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

    from mindspore import nn

    from src.config import Config
    from src.data.pipeline import Pipeline
    from src.engine.postprocess import PostprocessOptions
    from src.weights.sources import WeightSource

# A model package is imported when a configuration names it, so that a broken or heavy one burdens nobody else.
_PACKAGES = {
    "yolov3": "src.yolov3_quant",
    "yolov4": "src.yolov4",
    "efficientdet_d0": "src.efficientdet_d0",
    "refinedet": "src.refinedet",
    "darknet53": "src.darknet53",
    "cspdarknet53": "src.darknet53",
}


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

        The targets are `Batch.arrays()` without images and valid sizes.
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
        from src.common.preprocess import Preprocess

        return Preprocess(self.cfg.mean, self.cfg.std)

    def quantized(self, network: nn.Cell) -> nn.Cell:
        """The network with the roundings of int8 where `quantization_aware` asks for them, else as it is."""
        if not self.cfg.quantization_aware:
            return network
        from src.common.quantize import quantize

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

    def test_options(self) -> PostprocessOptions:
        """As `postprocess_options`, for the result file of a test server."""
        return self.postprocess_options()


class ClassificationRecipe(Recipe):
    """A classifier. The network gives logits (N, C).

    Criterion: (logits, labels (N,) int32) -> losses. Decoder: (logits, image size (h, w)) -> probabilities (N, C).
    `train_pipeline` gives a `ClassTransform`, or a `Pipeline` as evaluation has.
    """

    task: ClassVar[str] = "classify"


def model_table() -> dict[str, str]:
    """Name of each model as a configuration's `model:` gives it -> its package."""
    return dict(_PACKAGES)


def config_class(model: str) -> type[Config]:
    """The configuration dataclass of a model: `MODEL_CONFIG` of its package's config module, by model if it has two.

    Raises:
        UsageError: if there is no such model.
    """
    found = _config_module(model).MODEL_CONFIG
    return found[model] if isinstance(found, Mapping) else found


def aliases(model: str, script: str) -> Mapping[str, str]:
    """Old flag name -> key, for one model and one script (`train`, `eval`, `test`, `export`, `predict`, `postprocess`).

    A model's `ALIASES` holds a table a script, and under `*` what all scripts share. An empty model gives the names
    that mean the same for all models.
    """
    from src.config_keys import SCRIPT_ALIASES, SHARED_ALIASES

    own = _config_module(model).ALIASES if model else {}
    return {**SHARED_ALIASES, **SCRIPT_ALIASES.get(script, {}), **own.get("*", {}), **own.get(script, {})}


def file_names(model: str, script: str) -> Mapping[str, tuple[str, ...]]:
    """Old name in a YAML file -> the keys that it sets there.

    A file serves every script, so that a name means in it what it means in training, whichever script reads it; a name
    that only another script has means what it means there. What differs by script are a file's two names for weights:
    `STARTS_FROM` of a model are those that training starts from, `SCORED` those of the weights that are evaluated.
    """
    from src.config_keys import BOTH_SPLITS, SCRIPT_ALIASES

    module = _config_module(model)
    names: dict[str, str] = {}
    for other in ("postprocess", "predict", "export", "test", "eval", "train"):
        names |= {**SCRIPT_ALIASES.get(other, {}), **module.ALIASES.get(other, {})}
    found = {name: (key,) for name, key in {**names, **aliases(model, "")}.items()} | BOTH_SPLITS
    of_others = getattr(module, "SCORED" if script == "train" else "STARTS_FROM", ())
    return {**found, **{name: () for name in of_others}}


def _config_module(model: str) -> ModuleType:
    if model not in _PACKAGES:
        near = difflib.get_close_matches(model, _PACKAGES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the models are {', '.join(_PACKAGES)}"
        raise UsageError(f"there is no model {model!r}; {hint}")
    return importlib.import_module(f"{_PACKAGES[model]}.config")


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
    _config_module(cfg.model)
    return importlib.import_module(f"{_PACKAGES[cfg.model]}.recipe").Recipe
