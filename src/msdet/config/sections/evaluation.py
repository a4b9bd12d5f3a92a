"""Keys of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class EvalInTrainingKeys:
    """Evaluation while training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    run_eval: bool = key(False, "evaluate while training", affects_training=False)
    eval_start_epoch: int = key(
        1, "first epoch (from 1) after which run_eval evaluates", minimum=0, affects_training=False
    )
    eval_interval: int = key(1, "epochs between evaluations", minimum=1, affects_training=False)
    save_best_ckpt: bool = key(True, "with run_eval: keep the best weights beside the newest", affects_training=False)


@dataclass(frozen=True)
class BatchKeys:
    """Evaluation"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "postprocess", "compare")
    DETAIL_IN: ClassVar[tuple[str, ...]] = ("train", "export")

    eval_batch_size: int = key(1, "images a batch at evaluation", minimum=1, maximum=65536, affects_training=False)


@dataclass(frozen=True)
class ThresholdKeys:
    """Detections"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "predict", "export", "postprocess", "compare")
    DETAIL_IN: ClassVar[tuple[str, ...]] = ("train", "export")

    eval_ignore_threshold: float = key(
        0.001, "detections of a lower score are dropped", minimum=0, maximum=1, affects_training=False
    )
    nms_thresh: float = key(
        0.5,
        "boxes of one class that overlap more (IoU) are suppressed; nms_type soft has no use for it",
        minimum=0,
        maximum=1,
        affects_training=False,
    )
    nms_type: str = key("greedy", "kind of NMS", choices=("greedy", "diou", "soft"), affects_training=False)
    max_detections: int = key(300, "detections kept an image", minimum=1, affects_training=False)
    multi_label: bool = key(
        False, "a box may have every class above multi_label_thresh, not only its best", affects_training=False
    )
    multi_label_thresh: float = key(
        0.2, "class probability for multi_label", minimum=0, maximum=1, affects_training=False
    )


@dataclass(frozen=True)
class ScoreKeys:
    """Score"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "postprocess", "compare")
    DETAIL_IN: ClassVar[tuple[str, ...]] = ("train", "export")

    scorer: str = key(
        "hotcoco", "implementation of the COCO metrics", choices=("hotcoco", "pycocotools"), affects_training=False
    )
    voc_metric: str = key(
        "11_points",
        "which mean of VOC's average precision is the score: that of 2007, or since 2010 the whole curve",
        choices=("11_points", "all_points"),
        affects_training=False,
    )


@dataclass(frozen=True)
class ReportKeys:
    """Report"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("eval", "postprocess")

    draw_images: int = key(0, "pictures with drawn boxes to save at evaluation", minimum=0, affects_training=False)
    result_view: bool = key(
        False, "save a picture of every image, detections beside the ground truth", affects_training=False
    )
    recommend_threshold: bool = key(
        False, "save the precision-recall curve and the best score threshold of each class", affects_training=False
    )


@dataclass(frozen=True)
class ResultFileKeys:
    """Result files"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("eval",)

    detections: str = key(
        "", "score this detections file: no network runs, and no images are needed", path=True, affects_training=False
    )
    override: bool = key(
        True,
        "run the network again; False: score the newest result in log_path of the same weights, images and thresholds",
        affects_training=False,
    )


@dataclass(frozen=True)
class OtherProgramKeys:
    """Results of another program"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("postprocess",)

    result_path: str = key(
        "",
        "postprocess.py: folder of another program's results, NAME_0.bin, NAME_1.bin, ... for each image",
        path=True,
        affects_training=False,
    )
    input_bins: str = key(
        "",
        "postprocess.py: write the inputs of that program, NAME.bin, to this folder and stop",
        path=True,
        affects_training=False,
    )
