"""Every default on the five pages of the old zoo, with what it is here and why it differs where it does."""

from __future__ import annotations

from typing import NamedTuple


class Default(NamedTuple):
    """A default of a page.

    Attributes:
        config: the file in configs/ that stands for the page.
        name: as the page writes it.
        theirs: as the page writes it.
        reason: why ours is another one; "" where it is the same.
        ours: the value of the key here, where it is another one.
    """

    config: str
    name: str
    theirs: object
    reason: str = ""
    ours: object = None


_DEVICE = "the best device that the machine has, so that nothing has to be said on a GPU or a CPU"
_INTERVAL = "epochs here, steps there, where None is an epoch too"
_SCHEDULER = "the page's own commands train with this one, and so were its figures recorded"
_FOLDER = "no folder of somebody's machine: the data set is named when it is used"

DEFAULTS = [
    # YOLOv3-DarkNet53-Quant: the flags of train.py.
    Default("yolov3_quant", "data_dir", ""),
    Default("yolov3_quant", "per_batch_size", 16),
    Default("yolov3_quant", "resume_yolov3", ""),
    Default("yolov3_quant", "lr_scheduler", "exponential", _SCHEDULER, "cosine_annealing"),
    Default("yolov3_quant", "lr", 0.012),
    Default("yolov3_quant", "lr_epochs", "92,105"),
    Default("yolov3_quant", "lr_gamma", 0.1),
    Default("yolov3_quant", "eta_min", 0),
    Default("yolov3_quant", "T_max", 135),
    Default("yolov3_quant", "max_epoch", 135),
    Default("yolov3_quant", "warmup_epochs", 0, "five in the page's command, whose figures were recorded with it", 5),
    Default("yolov3_quant", "weight_decay", 0.0005),
    Default("yolov3_quant", "momentum", 0.9),
    Default("yolov3_quant", "loss_scale", 1024),
    Default("yolov3_quant", "label_smooth", 0),
    Default("yolov3_quant", "label_smooth_factor", 0.1),
    Default("yolov3_quant", "log_interval", 100),
    Default("yolov3_quant", "ckpt_path", "outputs/"),
    Default("yolov3_quant", "ckpt_interval", None, _INTERVAL, 1),
    Default("yolov3_quant", "is_save_on_master", 1),
    Default("yolov3_quant", "is_distributed", 0),
    Default("yolov3_quant", "rank", 0),
    Default("yolov3_quant", "group_size", 1),
    Default("yolov3_quant", "need_profiler", 0),
    Default("yolov3_quant", "training_shape", ""),
    Default("yolov3_quant", "resize_rate", None, "what None stood for: another size every batch", 1),
    # YOLOv4: the flags of train.py.
    Default("yolov4", "device_target", "Ascend", _DEVICE, "auto"),
    Default("yolov4", "data_dir", ""),
    Default("yolov4", "per_batch_size", 8),
    Default("yolov4", "pretrained_backbone", ""),
    Default("yolov4", "resume_yolov4", ""),
    Default("yolov4", "lr_scheduler", "exponential", _SCHEDULER, "cosine_annealing"),
    Default("yolov4", "lr", 0.001, "the rate of the recorded training, by its log", 0.012),
    Default("yolov4", "lr_epochs", "220,250"),
    Default("yolov4", "lr_gamma", 0.1),
    Default("yolov4", "eta_min", 0),
    Default("yolov4", "T_max", 320),
    Default("yolov4", "max_epoch", 320),
    Default("yolov4", "warmup_epochs", 0, "of the recorded training on eight cards, by its log; 4 on one", 20),
    Default("yolov4", "weight_decay", 0.0005),
    Default("yolov4", "momentum", 0.9),
    Default("yolov4", "loss_scale", 64),
    Default("yolov4", "label_smooth", 0),
    Default("yolov4", "label_smooth_factor", 0.1),
    Default("yolov4", "log_interval", 100),
    Default("yolov4", "ckpt_path", "outputs/"),
    Default("yolov4", "ckpt_interval", None, _INTERVAL, 1),
    Default("yolov4", "is_save_on_master", 1),
    Default("yolov4", "is_distributed", 1, "whoever starts several processes says so; the launchers do", 0),
    Default("yolov4", "rank", 0),
    Default("yolov4", "group_size", 1),
    Default("yolov4", "need_profiler", 0),
    Default("yolov4", "training_shape", ""),
    Default("yolov4", "resize_rate", 10),
    # EfficientDet-D0: the flags, and the table of its training.
    Default("efficientdet_d0_seed", "run_platform", "Ascend", _DEVICE, "auto"),
    Default("efficientdet_d0_seed", "data_url", ""),
    Default("efficientdet_d0_seed", "train_url", ""),
    Default("efficientdet_d0_seed", "checkpoint_path", ""),
    Default("efficientdet_d0_seed", "is_modelarts", False),
    Default("efficientdet_d0_seed", "override", True),
    Default("efficientdet_d0_seed", "nms_threshold", 0.5),
    Default("efficientdet_d0_seed", "epoch_size", 500),
    Default("efficientdet_d0_seed", "batch_size", 16),
    Default("efficientdet_d0_seed", "lr", 0.012),
    Default("efficientdet_d0_seed", "momentum", 0.9),
    # RefineDet: train.py and config.py.
    Default("refinedet_vgg16_320_seed", "device_num", 1),
    Default("refinedet_vgg16_320_seed", "lr", 0.05),
    Default("refinedet_vgg16_320_seed", "dataset", "coco", "the format is told from the files", "auto"),
    Default("refinedet_vgg16_320_seed", "epoch_size", 500),
    Default("refinedet_vgg16_320_seed", "batch_size", 32),
    Default("refinedet_vgg16_320_seed", "pre_trained", None),
    Default("refinedet_vgg16_320_seed", "pre_trained_epoch_size", 0),
    Default("refinedet_vgg16_320_seed", "save_checkpoint_epochs", 10),
    Default("refinedet_vgg16_320_seed", "loss_scale", 1024),
    Default("refinedet_vgg16_320_seed", "class_num", 81, "the classes of the annotation file", 0),
    Default("refinedet_vgg16_320_seed", "image_shape", [320, 320], "testing_shape is the side of a square", 320),
    Default("refinedet_vgg16_320_seed", "mindrecord_dir", "/data/MindRecord", _FOLDER, ""),
    Default("refinedet_vgg16_320_seed", "coco_root", "/data/coco2017", _FOLDER, ""),
    Default("refinedet_vgg16_320_seed", "voc_root", ""),
    Default("refinedet_vgg16_320_seed", "image_dir", ""),
    Default("refinedet_vgg16_320_seed", "anno_path", ""),
    # DarkNet53: imagenet_config.yaml.
    Default("darknet53_imagenet", "device_target", "GPU", _DEVICE, "auto"),
    Default(
        "darknet53_imagenet", "run_distributed", True, "the launchers say so; one process needs no launcher", False
    ),
    Default("darknet53_imagenet", "device_num", "", "one process, where no launcher says otherwise", 1),
    Default("darknet53_imagenet", "net", "darknet53"),
    Default("darknet53_imagenet", "dataset", "imagenet2012", "the new name of the same", "imagefolder"),
    Default("darknet53_imagenet", "dataset_path", ""),
    Default("darknet53_imagenet", "pre_trained", ""),
    Default("darknet53_imagenet", "class_num", 1000),
    Default("darknet53_imagenet", "epoch_num", 150),
    Default("darknet53_imagenet", "pretrained_epoch_num", 0),
    Default("darknet53_imagenet", "batch_size", 256),
    Default("darknet53_imagenet", "momentum", 0.9),
    Default("darknet53_imagenet", "loss_scale", 1024),
    Default("darknet53_imagenet", "weight_decay", 0.0001),
    Default("darknet53_imagenet", "use_label_smooth", True),
    Default("darknet53_imagenet", "label_smooth_factor", 0.1),
    Default("darknet53_imagenet", "lr", 0.1),
    Default("darknet53_imagenet", "lr_scheduler", "cosine_annealing"),
    Default("darknet53_imagenet", "eta_min", 0),
    Default("darknet53_imagenet", "T_max", 150),
    Default("darknet53_imagenet", "warmup_epochs", 5),
    Default("darknet53_imagenet", "checkpoint_path", ""),
    Default("darknet53_imagenet", "save_checkpoint", True),
    Default("darknet53_imagenet", "save_checkpoint_epochs", 5),
    Default("darknet53_imagenet", "keep_checkpoint_max", 90),
    Default("darknet53_imagenet", "save_checkpoint_path", "./", "a folder of its own for what runs leave", "outputs/"),
    Default("darknet53_imagenet", "summary_dir", "./summary_dir", "curves lie with the run that they are of", ""),
]
# Where the pages, which lie outside this repository, name these.
PAGES = {
    "yolov3_quant": "yolov3_darknet53_quant.md",
    "yolov4": "yolov4.md",
    "efficientdet_d0_seed": "efficientdet_d0.md",
    "refinedet_vgg16_320_seed": "refinedet.md",
    "darknet53_imagenet": "darknet53.md",
}
