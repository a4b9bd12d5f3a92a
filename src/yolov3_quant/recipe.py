"""YOLOv3 put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mindspore import nn

from src.common.yolo_decode import YoloDecoder
from src.darknet53.network import DarkNet53
from src.data.pipeline import Pipeline, jitter_pipeline, plain_pipeline
from src.engine.postprocess import PostprocessOptions
from src.recipe import DetectionRecipe
from src.weights.sources import WeightSource
from src.yolov3_quant.config import YoloV3Config
from src.yolov3_quant.loss import YoloV3Criterion
from src.yolov3_quant.network import YoloV3
from src.yolov3_quant.weights import SOURCES


class Recipe(DetectionRecipe):
    """YOLOv3 on DarkNet53; see `DetectionRecipe`."""

    NETWORK_KEYS: ClassVar[tuple[str, ...]] = (
        "backbone_shape", "backbone_layers", "activation", "padding", "bn_eps", "anchors",
    )  # fmt: skip

    cfg: YoloV3Config

    def build_network(self) -> nn.Cell:
        conv = {"padding": self.cfg.padding, "bn_momentum": self.cfg.bn_momentum, "bn_eps": self.cfg.bn_eps}
        backbone = DarkNet53(self.cfg.backbone_shape, self.cfg.backbone_layers, activation=self.cfg.activation, **conv)
        return YoloV3(backbone, self.cfg.num_classes, self.cfg.objectness_prior, **conv)

    def is_class_layer(self, name: str) -> bool:
        return ".predict." in name

    def weight_sources(self) -> Sequence[WeightSource]:
        return SOURCES

    def build_criterion(self) -> nn.Cell:
        smoothing = self.cfg.label_smooth_factor if self.cfg.label_smooth else 0.0
        return YoloV3Criterion(self.cfg.anchors, self.cfg.num_classes, self.cfg.ignore_threshold, smoothing)

    def build_decoder(self) -> nn.Cell:
        least = self.cfg.multi_label_thresh if self.cfg.multi_label else 0.0
        return YoloDecoder(self.cfg.anchors, self.cfg.num_classes, min_class_probability=least)

    def train_pipeline(self) -> Pipeline:
        cfg = self.cfg
        if not cfg.augment:
            return plain_pipeline(cfg.resize, cfg.interpolation, cfg.pad_value)
        return jitter_pipeline(
            cfg.jitter,
            cfg.hue,
            cfg.saturation,
            cfg.value,
            cfg.flip_probability,
            # The shape that a training sample is stretched to is the one that evaluation would stretch it to.
            aspect="network" if cfg.resize == "stretch" else "image",
            scale=cfg.jitter_scale,
            interpolation=cfg.training_interpolation,
            fill=cfg.pad_value,
        )

    def eval_pipeline(self) -> Pipeline:
        return plain_pipeline(self.cfg.resize, self.cfg.interpolation, self.cfg.pad_value)

    def postprocess_options(self) -> PostprocessOptions:
        cfg = self.cfg
        return PostprocessOptions(
            score_threshold=cfg.eval_ignore_threshold,
            nms_threshold=cfg.nms_thresh,
            nms_type=cfg.nms_type,
            max_detections=cfg.max_detections,
            multi_label=cfg.multi_label,
        )
