"""Keys of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import key


@dataclass(frozen=True)
class EvalInTrainingKeys:
    """Evaluation during training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    run_eval: bool = key(False, "evaluate during training", affects_training=False)
    eval_start_epoch: int = key(1, "first epoch (from 1) to evaluate after", minimum=0, affects_training=False)
    eval_interval: int = key(1, "epochs between evaluations", minimum=1, affects_training=False)
    save_best_ckpt: bool = key(True, "with run_eval: also keep the weights with the best score", affects_training=False)


@dataclass(frozen=True)
class BatchKeys:
    """Evaluation"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "postprocess", "compare")
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ("train", "export")

    eval_batch_size: int = key(1, "evaluation batch size per device", minimum=1, maximum=65536, affects_training=False)


@dataclass(frozen=True)
class ThresholdKeys:
    """Detections"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "predict", "export", "postprocess", "compare")
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ("train", "export")

    eval_ignore_threshold: float = key(
        0.001, "score threshold: detections below it are dropped", minimum=0, maximum=1, affects_training=False
    )
    nms_thresh: float = key(
        0.5,
        "IoU threshold of NMS within a class; not used by nms_type soft",
        minimum=0,
        maximum=1,
        affects_training=False,
    )
    nms_type: str = key("greedy", "kind of NMS", choices=("greedy", "diou", "soft"), affects_training=False)
    max_detections: int = key(300, "maximum detections per image", minimum=1, affects_training=False)
    multi_label: bool = key(
        False, "keep every class of a box above multi_label_thresh instead of the best one", affects_training=False
    )
    multi_label_thresh: float = key(
        0.2, "class probability threshold of multi_label", minimum=0, maximum=1, affects_training=False
    )


@dataclass(frozen=True)
class ScoreKeys:
    """Score"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "postprocess", "compare")
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ("train", "export")

    scorer: str = key(
        "hotcoco", "implementation of the COCO metrics", choices=("hotcoco", "pycocotools"), affects_training=False
    )
    voc_metric: str = key(
        "11_points",
        "VOC average precision: 11-point interpolation (VOC 2007), or the area under the whole curve (since VOC 2010)",
        choices=("11_points", "all_points"),
        affects_training=False,
    )


@dataclass(frozen=True)
class ReportKeys:
    """Report"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("eval", "postprocess")

    draw_images: int = key(0, "number of images to save with their detections drawn", minimum=0, affects_training=False)
    result_view: bool = key(
        False, "save every image with its detections next to its ground truth", affects_training=False
    )
    recommend_threshold: bool = key(
        False, "save the precision-recall curve and the best score threshold of each class", affects_training=False
    )


@dataclass(frozen=True)
class ResultFileKeys:
    """Result files"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("eval",)

    detections: str = key(
        "", "score this detections file; needs neither network nor images", path=True, affects_training=False
    )
    override: bool = key(
        True,
        "run the network again; False: reuse the newest result in log_path with equal weights, images and thresholds",
        affects_training=False,
    )


@dataclass(frozen=True)
class OtherProgramKeys:
    """Results of an external program"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("postprocess",)

    result_path: str = key(
        "",
        "postprocess.py: folder of the results of an external program: NAME_0.bin, NAME_1.bin, ... per image",
        path=True,
        affects_training=False,
    )
    input_bins: str = key(
        "",
        "postprocess.py: write the inputs for that program (NAME.bin) to this folder and exit",
        path=True,
        affects_training=False,
    )
