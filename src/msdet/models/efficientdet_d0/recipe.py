"""Recipe of EfficientDet-D0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from mindspore import nn

from msdet.data.transforms.augment import Flip
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.scale_jitter import ScaleJitter
from msdet.layers.conv import NormOptions
from msdet.models.efficientdet_d0.anchors import EfficientDetDecoder, make_anchors
from msdet.models.efficientdet_d0.config import EfficientDetConfig
from msdet.models.efficientdet_d0.efficientnet import EfficientNetB0
from msdet.models.efficientdet_d0.loss import EfficientDetCriterion
from msdet.models.efficientdet_d0.network import EfficientDet
from msdet.models.efficientdet_d0.preprocess import PadAfterPreprocess
from msdet.models.efficientdet_d0.weight_names import SOURCES
from msdet.models.recipe import DetectionRecipe
from msdet.models.weight_names import WeightSource
from msdet.ops.postprocess import PostprocessOptions


class Recipe(DetectionRecipe):
    """EfficientDet-D0."""

    # Without pad_value: padding is 0 after the normalisation.
    PREPROCESS_KEYS: ClassVar[tuple[str, ...]] = ("mean", "std", "resize", "interpolation")
    NETWORK_KEYS: ClassVar[tuple[str, ...]] = (
        "backbone_shape", "backbone_layers", "pyramid_channels", "pyramid_repeats", "head_repeats", "pool_padding",
        "bn_eps",
    )  # fmt: skip

    cfg: EfficientDetConfig

    def build_network(self) -> nn.Cell:
        cfg = self.cfg
        norm: NormOptions = {"bn_momentum": cfg.bn_momentum, "bn_eps": cfg.bn_eps}
        return EfficientDet(
            EfficientNetB0(cfg.backbone_shape, cfg.backbone_layers, cfg.drop_connect, **norm),
            cfg.num_classes,
            cfg.pyramid_channels,
            cfg.pyramid_repeats,
            cfg.head_repeats,
            cfg.pool_padding,
            **norm,
        )

    def build_preprocess(self) -> nn.Cell:
        return PadAfterPreprocess(self.cfg.mean, self.cfg.std)

    def build_criterion(self) -> nn.Cell:
        cfg = self.cfg
        return EfficientDetCriterion(
            cfg.num_classes,
            cfg.focal_alpha,
            cfg.focal_gamma,
            cfg.box_loss,
            cfg.box_loss_beta,
            cfg.box_loss_weight,
            cfg.positive_iou,
            cfg.negative_iou,
            cfg.loss_normalizer,
            cfg.force_match,
        )

    def build_decoder(self) -> nn.Cell:
        return EfficientDetDecoder()

    def weight_sources(self) -> Sequence[WeightSource]:
        return SOURCES

    def is_class_layer(self, name: str) -> bool:
        return name.startswith("classification.predict.pointwise.")

    def anchors(self, size: tuple[int, int]) -> np.ndarray:
        return make_anchors(*size)

    def train_pipeline(self) -> Pipeline:
        """Flips before the image is resized and padded, so that the padding stays at the right and bottom."""
        cfg = self.cfg
        if not cfg.augment:
            return self.eval_pipeline()
        flip = (Flip(cfg.flip_probability),) if cfg.flip_probability > 0 else ()
        if tuple(cfg.jitter_scale) == (1.0, 1.0):
            place = self.eval_pipeline().place
        else:
            place = ScaleJitter(cfg.jitter_scale, cfg.interpolation, cfg.pad_value)
        return Pipeline(place=place, before=flip)

    def postprocess_options(self) -> PostprocessOptions:
        threshold = self.cfg.multi_label_thresh if self.cfg.multi_label else 0.0
        return replace(super().postprocess_options(), multi_label_thresh=threshold)
