"""Base of the recipes of YOLOv3 and YOLOv4: decoder and augmentation."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from mindspore import nn

from msdet.data.transforms.pipeline import Pipeline, jitter_pipeline
from msdet.layers.conv import ConvOptions
from msdet.models.recipe import DetectionRecipe
from msdet.models.yolo.config import YoloConfig
from msdet.models.yolo.decoder import YoloDecoder


class YoloRecipe(DetectionRecipe):
    """A version of YOLO adds network, criterion and weight sources."""

    NETWORK_KEYS: ClassVar[tuple[str, ...]] = ("backbone_shape", "backbone_layers", "padding", "bn_eps", "anchors")

    cfg: YoloConfig

    def is_class_layer(self, name: str) -> bool:
        return ".predict." in name

    def conv_options(self) -> ConvOptions:
        """Arguments of all `ConvBnAct` of the network."""
        return {"padding": self.cfg.padding, "bn_momentum": self.cfg.bn_momentum, "bn_eps": self.cfg.bn_eps}

    def label_smoothing(self) -> float:
        """0 unless `label_smooth` is set."""
        return self.cfg.label_smooth_factor if self.cfg.label_smooth else 0.0

    def scale_x_y(self) -> tuple[float, float, float]:
        """See `YoloDecoder`."""
        return (1.0, 1.0, 1.0)

    def build_decoder(self) -> nn.Cell:
        min_probability = self.cfg.multi_label_thresh if self.cfg.multi_label else 0.0
        return YoloDecoder(self.cfg.anchors, self.cfg.num_classes, self.scale_x_y(), min_probability)

    def anchor_sizes(self) -> np.ndarray:
        return np.array(self.cfg.anchors, np.float64)

    def train_pipeline(self) -> Pipeline:
        cfg = self.cfg
        if not cfg.augment:
            return self.eval_pipeline()
        return jitter_pipeline(
            cfg.jitter,
            cfg.hue,
            cfg.saturation,
            cfg.value,
            cfg.flip_probability,
            # Training images get the aspect ratio that they would have in evaluation.
            aspect="network" if cfg.resize == "stretch" else "image",
            scale=cfg.jitter_scale,
            interpolation=cfg.training_interpolation,
            fill=cfg.pad_value,
        )
