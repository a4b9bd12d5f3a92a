"""Recipe of the classifiers DarkNet53 and CSPDarkNet53."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mindspore import nn

from msdet.data.loading.class_batch import ClassTransform
from msdet.data.transforms.centre_crop import ResizeAndCrop
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.random_crop import CropFlipColour
from msdet.models.darknet53.config import DarkNet53Config
from msdet.models.darknet53.loss import Probabilities, SmoothedCrossEntropy
from msdet.models.darknet53.network import BACKBONES, Classifier, init_xavier
from msdet.models.darknet53.weight_names import classifier_sources
from msdet.models.recipe import ClassificationRecipe
from msdet.models.weight_names import WeightSource

# Resize mode of the old zoo in the evaluation of its weights.
_ZOO_RESIZE = {"darknet53": "shortest_side", "cspdarknet53": "stretch"}


class Recipe(ClassificationRecipe):
    """DarkNet53 or CSPDarkNet53, depending on the key `model`."""

    PREPROCESS_KEYS: ClassVar[tuple[str, ...]] = ("mean", "std", "resize", "eval_resize", "interpolation")
    NETWORK_KEYS: ClassVar[tuple[str, ...]] = (
        "backbone_shape", "backbone_layers", "activation", "padding", "bn_eps",
    )  # fmt: skip

    cfg: DarkNet53Config

    def build_network(self) -> nn.Cell:
        cfg = self.cfg
        backbone = BACKBONES[cfg.model](
            cfg.backbone_shape,
            cfg.backbone_layers,
            activation=cfg.activation,
            padding=cfg.padding,
            bn_momentum=cfg.bn_momentum,
            bn_eps=cfg.bn_eps,
        )
        if cfg.weight_init == "xavier":
            init_xavier(backbone)
        return self.quantized(Classifier(backbone, cfg.num_classes))

    def build_criterion(self) -> nn.Cell:
        cfg = self.cfg
        return SmoothedCrossEntropy(cfg.num_classes, cfg.label_smooth_factor if cfg.label_smooth else 0.0)

    def build_decoder(self) -> nn.Cell:
        return Probabilities()

    def is_class_layer(self, name: str) -> bool:
        return name.startswith("fc.")

    def weight_sources(self) -> Sequence[WeightSource]:
        cfg = self.cfg
        return classifier_sources(cfg.model, _ZOO_RESIZE[cfg.model], cfg.class_names, cfg.num_classes)

    def train_pipeline(self) -> ClassTransform | Pipeline:
        cfg = self.cfg
        if not cfg.augment:
            return self.eval_pipeline()
        return CropFlipColour(cfg.crop_area, cfg.crop_aspect, cfg.flip_probability, cfg.colour_jitter)

    def eval_pipeline(self) -> Pipeline:
        return Pipeline(place=ResizeAndCrop(self.cfg.resize, self.cfg.eval_resize, self.cfg.interpolation))

    def card(self, category_ids: list[Any]) -> dict[str, Any]:
        """The card without the entries of detectors, and with the resize in px."""
        card = super().card(category_ids)
        del card["category_ids"], card["label_map"]
        card["preprocess"] |= {"resize_px": self.cfg.resize_px, "crop_px": self.cfg.testing_shape}
        return card
