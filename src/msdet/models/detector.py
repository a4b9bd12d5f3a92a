"""What the recipes of all detectors share: the placing of evaluation and the final detections, as the keys say."""

from __future__ import annotations

from msdet.data.transforms.pipeline import Pipeline, plain_pipeline
from msdet.models.recipe import DetectionRecipe
from msdet.ops.postprocess import PostprocessOptions


class DetectorRecipe(DetectionRecipe):
    """See `DetectionRecipe`; a model adds network, criterion, decoder and augmentation."""

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
