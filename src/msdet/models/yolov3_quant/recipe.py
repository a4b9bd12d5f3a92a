"""Recipe of YOLOv3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mindspore import nn

from msdet.models.darknet53.network import DarkNet53
from msdet.models.weight_names import WeightSource
from msdet.models.yolo.recipe import YoloRecipe
from msdet.models.yolov3_quant.config import YoloV3Config
from msdet.models.yolov3_quant.loss import YoloV3Criterion
from msdet.models.yolov3_quant.network import YoloV3
from msdet.models.yolov3_quant.weight_names import SOURCES


class Recipe(YoloRecipe):
    """YOLOv3 on DarkNet53."""

    NETWORK_KEYS: ClassVar[tuple[str, ...]] = (*YoloRecipe.NETWORK_KEYS, "activation")

    cfg: YoloV3Config

    def build_network(self) -> nn.Cell:
        cfg, conv = self.cfg, self.conv_options()
        backbone = DarkNet53(cfg.backbone_shape, cfg.backbone_layers, activation=cfg.activation, **conv)
        return self.quantized(YoloV3(backbone, cfg.num_classes, cfg.objectness_prior, **conv))

    def weight_sources(self) -> Sequence[WeightSource]:
        return SOURCES

    def build_criterion(self) -> nn.Cell:
        cfg = self.cfg
        return YoloV3Criterion(cfg.anchors, cfg.num_classes, cfg.ignore_threshold, self.label_smoothing())
