"""Recipe of YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from mindspore import nn

from msdet.data.transforms.mosaic import Mosaic
from msdet.models.darknet53.network import CspDarkNet53
from msdet.models.weight_names import WeightSource
from msdet.models.yolo.recipe import YoloRecipe
from msdet.models.yolov4.config import YoloV4Config
from msdet.models.yolov4.loss import YoloV4Criterion
from msdet.models.yolov4.network import YoloV4
from msdet.models.yolov4.weight_names import SOURCES
from msdet.ops.postprocess import PostprocessOptions


class Recipe(YoloRecipe):
    """YOLOv4 on CSPDarkNet53."""

    NETWORK_KEYS: ClassVar[tuple[str, ...]] = (*YoloRecipe.NETWORK_KEYS, "activation", "scale_x_y")
    # 110 convolutions deep: differences in rounding accumulate.
    EXPORT_TOLERANCE: ClassVar[float] = 5e-3

    cfg: YoloV4Config

    def build_network(self) -> nn.Cell:
        cfg, conv = self.cfg, self.conv_options()
        backbone = CspDarkNet53(cfg.backbone_shape, cfg.backbone_layers, activation=cfg.activation, **conv)
        return self.quantized(YoloV4(backbone, cfg.num_classes, cfg.objectness_prior, cfg.class_prior, **conv))

    def weight_sources(self) -> Sequence[WeightSource]:
        return SOURCES

    def scale_x_y(self) -> tuple[float, float, float]:
        return self.cfg.scale_x_y

    def build_criterion(self) -> nn.Cell:
        cfg = self.cfg
        return YoloV4Criterion(
            cfg.anchors,
            cfg.num_classes,
            cfg.ignore_threshold,
            self.label_smoothing(),
            cfg.scale_x_y,
            cfg.iou_loss,
            cfg.bbox_class_loss_coff,
            cfg.detect_head_loss_coff,
        )

    def mosaic(self) -> Mosaic | None:
        return Mosaic(self.cfg.mosaic_probability) if self.cfg.mosaic else None

    def test_options(self) -> PostprocessOptions:
        return replace(
            self.postprocess_options(),
            score_threshold=self.cfg.test_ignore_threshold,
            nms_threshold=self.cfg.test_nms_thresh,
        )
