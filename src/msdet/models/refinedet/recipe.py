"""Recipe of RefineDet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from mindspore import nn

from msdet.data.transforms.augment import Flip
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.ssd import ExpandCrop, PhotometricDistort
from msdet.layers.conv import NormOptions
from msdet.models.recipe import DetectionRecipe
from msdet.models.refinedet.anchors import RefineDetDecoder, make_anchors
from msdet.models.refinedet.backbones import (
    RESNET101_CHANNELS,
    RESNET101_LAYERS,
    VGG16_CHANNELS,
    VGG16_LAYERS,
    Bottleneck,
    ResNet101,
    Vgg16,
)
from msdet.models.refinedet.config import RefineDetConfig
from msdet.models.refinedet.layers import Conv
from msdet.models.refinedet.loss import RefineDetCriterion
from msdet.models.refinedet.network import RefineDet
from msdet.models.refinedet.weight_names import RESNET101_SOURCES, VGG16_SOURCES
from msdet.models.weight_names import WeightSource
from msdet.ops.postprocess import PostprocessOptions

# Initial scales of `ChannelNorm` on conv4_3 and conv5_3, as published.
_SCALES = (10.0, 8.0)


class Recipe(DetectionRecipe):
    """RefineDet on VGG16 or ResNet101."""

    NETWORK_KEYS: ClassVar[tuple[str, ...]] = (
        "backbone", "backbone_shape", "backbone_layers", "pyramid_channels", "bn_eps", "clip_anchors",
    )  # fmt: skip

    cfg: RefineDetConfig

    def build_network(self) -> nn.Cell:
        network = self._with_vgg16() if self.cfg.backbone == "vgg16" else self._with_resnet101()
        if self.cfg.freeze_layer == "backbone":
            for parameter in network.backbone.get_parameters():
                parameter.requires_grad = False
        return network

    def _with_vgg16(self) -> nn.Cell:
        cfg = self.cfg
        backbone = Vgg16(cfg.backbone_shape or VGG16_CHANNELS, cfg.backbone_layers or VGG16_LAYERS)
        wide = backbone.out_channels[-1]
        extra = nn.SequentialCell([Conv(wide, wide // 4, 1), Conv(wide // 4, wide // 2, 3, stride=2)])
        return RefineDet(backbone, extra, wide // 2, cfg.num_classes, cfg.pyramid_channels, _SCALES)

    def _with_resnet101(self) -> nn.Cell:
        cfg = self.cfg
        norm: NormOptions = {"bn_momentum": cfg.bn_momentum, "bn_eps": cfg.bn_eps}
        channels, layers = cfg.backbone_shape or RESNET101_CHANNELS, cfg.backbone_layers or RESNET101_LAYERS
        backbone = ResNet101(channels, layers, **norm)
        wide = backbone.out_channels[-1]
        extra = Bottleneck(wide, wide // 16, wide // 4, 2, **norm)
        return RefineDet(backbone, extra, wide // 4, cfg.num_classes, cfg.pyramid_channels, has_norm=True, **norm)

    def build_criterion(self) -> nn.Cell:
        cfg = self.cfg
        return RefineDetCriterion(
            cfg.num_classes,
            cfg.training_sizes[0],
            cfg.match_threshold,
            cfg.neg_pos_ratio,
            cfg.objectness_threshold,
            cfg.mine_filtered_anchors,
            cfg.clip_anchors,
        )

    def build_decoder(self) -> nn.Cell:
        return RefineDetDecoder(self.cfg.objectness_threshold, self.cfg.clip_anchors)

    def weight_sources(self) -> Sequence[WeightSource]:
        return VGG16_SOURCES if self.cfg.backbone == "vgg16" else RESNET101_SOURCES

    def is_class_layer(self, name: str) -> bool:
        return name.startswith("odm_conf.")

    def anchors(self, size: tuple[int, int]) -> np.ndarray:
        return make_anchors(*size, self.cfg.clip_anchors)

    def train_pipeline(self) -> Pipeline:
        cfg = self.cfg
        if not cfg.augment:
            return self.eval_pipeline()
        colours = PhotometricDistort(
            cfg.colour_probability, cfg.brightness, cfg.contrast, cfg.saturation_range, cfg.hue
        )  # fmt: skip
        red, green, blue = cfg.mean
        place = ExpandCrop(
            cfg.expand_probability,
            cfg.expand_ratio,
            cfg.crop_overlaps,
            cfg.crop_scale,
            cfg.crop_aspect,
            cfg.training_interpolation,
            # The mean colour, as in the original: 0 after the normalisation.
            (round(255 * red), round(255 * green), round(255 * blue)),
        )
        return Pipeline(place=place, before=(colours,), after=(Flip(cfg.flip_probability),))

    def postprocess_options(self) -> PostprocessOptions:
        return replace(super().postprocess_options(), pre_nms_top_k_per_class=self.cfg.nms_top_k)
