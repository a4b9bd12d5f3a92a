"""The keys every model shares, in the groups in which `--help` shows them.

A key stands here once, with its default, meaning, unit and range; that line is its documentation. Names follow the old
model zoo where it had one. A key that the trained weights do not depend on is marked `affects_training=False`: a run
may be resumed with another log interval, but not unnoticed with another learning rate. Paths are marked too, since a
folder may move.
"""

from __future__ import annotations

from dataclasses import dataclass

from src.common.class_lists import MAX_CLASSES
from src.config_values import key

# Old names with one meaning in every model and script. Names with several meanings stand in the models' own tables.
SHARED_ALIASES = {
    "T_max": "t_max",
    "epoch_size": "max_epoch",
    "epoch_num": "max_epoch",
    "run_platform": "device_target",
    "distribute": "is_distributed",
    "run_distribute": "is_distributed",
    "run_distributed": "is_distributed",
    "is_dynamic_loss_scale": "dynamic_loss_scale",
    "max_box": "max_boxes",
    "workers": "num_parallel_workers",
    "labels": "class_names",
    "annFile": "val_ann_file",
    "ann_val_file": "val_ann_file",
    "ann_file": "train_ann_file",
    "coco_root": "data_dir",
    "voc_root": "data_dir",
    "result_files": "result_path",
    "img_path": "val_image_dir",
    "img_id_file_path": "val_image_dir",
    "is_modelarts": "enable_modelarts",
    "run_online": "enable_modelarts",
    "pre_trained_url": "checkpoint_url",
    "resume_yolov3": "pretrained",
    "resume_yolov4": "pretrained",
    "pretrained_checkpoint": "pretrained",
    "ckpt_file": "pretrained",
}

# Old names with one meaning in all models, but only in one script.
SCRIPT_ALIASES = {
    "export": {"batch_size": "export_batch_size"},
    "train": {"anno_path": "train_ann_file", "image_dir": "train_image_dir"},
    "eval": {"anno_path": "val_ann_file", "image_dir": "val_image_dir"},
    "postprocess": {"anno_path": "val_ann_file", "image_dir": "val_image_dir"},
}

# In a file, which says them once for all scripts, they are of training and of validation.
BOTH_SPLITS = {
    "anno_path": ("train_ann_file", "val_ann_file"),
    "image_dir": ("train_image_dir", "val_image_dir"),
}

_SIZES = tuple((size, size) for size in range(320, 609, 32))


@dataclass(frozen=True)
class ModelKeys:
    """Model"""

    model: str = key("", "which network; a config file sets it")


@dataclass(frozen=True)
class DataKeys:
    """Data"""

    dataset: str = key(
        "auto",
        "form of the annotations; auto: told by the files, and said; other: old name of txt",
        choices=("auto", "coco", "voc", "yolo", "txt", "mindrecord", "other", "voc0712", "voc0712plus"),
        affects_training=False,
    )
    data_dir: str = key("", "folder of the data set", path=True, affects_training=False)
    layout: str = key(
        "auto",
        "names of COCO's files in data_dir",
        choices=("auto", "coco2017", "coco2014", "plain", "coco2017_instance", "coco2017_images", "roboflow"),
        affects_training=False,
    )
    mindrecord_dir: str = key(
        "",
        "folder of MindRecord files: trained from if it holds some, made from data_dir if not; empty: none are used",
        path=True,
        affects_training=False,
    )
    train_image_dir: str = key(
        "", "folder of the training images; empty: found in data_dir", path=True, affects_training=False
    )
    train_ann_file: str = key(
        "", "annotation file of the training images; empty: found in data_dir", path=True, affects_training=False
    )
    val_image_dir: str = key(
        "", "folder of the validation images; empty: found in data_dir", path=True, affects_training=False
    )
    val_ann_file: str = key(
        "", "annotation file of the validation images; empty: found in data_dir", path=True, affects_training=False
    )
    test_image_dir: str = key(
        "", "folder of the images of test.py; empty: found in data_dir", path=True, affects_training=False
    )
    test_ann_file: str = key(
        "", "list of the images of test.py; empty: found in data_dir", path=True, affects_training=False
    )
    class_names: tuple[str, ...] = key((), "object classes in label order; empty: those of the annotation file")
    num_classes: int = key(
        0, "object classes, without background; 0: as many as there are names", minimum=0, maximum=MAX_CLASSES
    )
    label_map: str = key(
        "dense",
        "label of a category: its place among the classes, or its COCO id - 1",
        choices=("dense", "coco_id_minus_1"),
    )
    txt_order: str = key(
        "xyxy", "order of a box in lists of boxes; the old RefineDet read yxyx", choices=("xyxy", "yxyx")
    )
    txt_first_class: int = key(0, "number of the first class in lists of boxes", minimum=0, maximum=1)
    voc_first_pixel: int = key(
        1, "number of the leftmost pixel in VOC files: 1, or 0 as some programs write", minimum=0, maximum=1
    )
    keep_empty_images: bool = key(
        True, "train on images without any annotation too; False: leave them out, as the old zoo did"
    )
    learn_difficult: bool = key(True, "VOC: train on objects marked difficult too; a score never asks for them")
    max_boxes: int = key(
        50, "ground-truth boxes an image is padded to; more grow the batch unless cut_boxes", minimum=1
    )
    cut_boxes: bool = key(False, "drop (and count) the boxes of an image beyond max_boxes instead of growing the batch")
    on_bad_box: str = key(
        "error", "a box of no area or outside its image: stop, or leave it out", choices=("error", "skip")
    )
    on_bad_image: str = key(
        "error",
        "an image that is missing or broken: stop, or go on without it, unscored, and tell at the end of the epoch",
        choices=("error", "skip"),
    )
    max_image_pixels: int = key(178_956_970, "refuse images of more pixels (width * height)", minimum=1)
    num_parallel_workers: int = key(2, "processes that make batches", minimum=0, maximum=256, affects_training=False)
    data_timeout: float = key(
        120.0, "seconds to wait for a batch of these processes before it is an error", above=0, affects_training=False
    )


@dataclass(frozen=True)
class ImageKeys:
    """From picture to network input"""

    mean: tuple[float, float, float] = key((0.485, 0.456, 0.406), "subtracted from RGB in 0..1", minimum=0, maximum=1)
    std: tuple[float, float, float] = key((0.229, 0.224, 0.225), "RGB in 0..1 is divided by this", above=0, maximum=1)
    resize: str = key(
        "stretch", "how an image meets the input size", choices=("stretch", "letterbox", "letterbox_top_left")
    )
    interpolation: str = key(
        "linear",
        "of the resize at evaluation; old_zoo: cubic when enlarging, nearest when shrinking",
        choices=("linear", "nearest", "cubic", "area", "old_zoo"),
    )
    training_interpolation: str = key(
        "random",
        "of the resize in training; random: nearest, linear or cubic an image",
        choices=("random", "linear", "nearest", "cubic", "area"),
    )
    pad_value: int = key(128, "grey of what no image covers, 0..255", minimum=0, maximum=255)
    training_shape: str = key("", "fixed training size in px, e.g. 416; empty: the sizes of multi_scale in turn")
    multi_scale: tuple[tuple[int, int], ...] = key(
        _SIZES, "training sizes in px, square or (height, width)", minimum=32, maximum=4096, square=True
    )
    resize_rate: int = key(
        1, "batches between two changes of the training size", minimum=1, means_default=("None", "0", "")
    )
    testing_shape: int = key(
        416, "square input size in px at evaluation", minimum=32, maximum=4096, means_default=("None", "")
    )


@dataclass(frozen=True)
class AugmentKeys:
    """Augmentation of training images"""

    augment: bool = key(
        True, "crop, flip and colour changes of training images; False: only the resize, and mosaics where they are on"
    )
    flip_probability: float = key(0.5, "probability of a left-right flip", minimum=0, maximum=1)
    jitter: float = key(
        0.3, "aspect-ratio change of the random crop; 0 with scale 1..1 is none", minimum=0, maximum=0.99
    )
    jitter_scale: tuple[float, float] = key((0.25, 2.0), "range of the random zoom; 1,1 is none", above=0, maximum=16)
    hue: float = key(0.1, "largest change of hue, in turns of the colour circle", minimum=0, maximum=0.5)
    saturation: float = key(1.5, "largest factor or divisor of the saturation; 1 is none", minimum=1, maximum=10)
    value: float = key(1.5, "largest factor or divisor of the brightness; 1 is none", minimum=1, maximum=10)


@dataclass(frozen=True)
class DeviceKeys:
    """Device and processes"""

    device_target: str = key(
        "auto",
        "where to compute; auto: what MSDET_DEVICE in the environment says, else Ascend or GPU where there is one, "
        "else CPU",
        choices=("auto", "CPU", "GPU", "Ascend"),
        affects_training=False,
    )
    device_id: int = key(0, "number of the card", minimum=0, affects_training=False)
    mode: str = key(
        "graph", "compiled graph, or PyNative to debug", choices=("graph", "pynative"), affects_training=False
    )
    jit_level: str = key(
        "auto",
        "how graphs are compiled on Ascend and GPU: kernel by kernel, with fused kernels, as one graph of the device; "
        "auto: O2 on Ascend 910 and, training for int8, on all Ascend chips, else O0",
        choices=("auto", "O0", "O1", "O2"),
        affects_training=False,
    )
    dynamic_shapes: str = key(
        "auto",
        "one compiled training step for all sizes and numbers of boxes; auto: on CPU and GPU. off: one for each size",
        choices=("auto", "on", "off"),
        affects_training=False,
    )
    deterministic: bool = key(
        False, "Ascend, GPU: bit for bit the same in every run, slower; a CPU always is", affects_training=False
    )
    allow_hf32: bool = key(
        True,
        "float32 convolutions of Ascend A2 (HF32) and GPU (TF32) may drop bits for speed, as CANN and cuDNN do by "
        "default; False: full float32",
        affects_training=False,
    )
    is_distributed: bool = key(
        False, "several processes, started by msrun; ranks are taken from its environment", affects_training=False
    )
    rank: int = key(0, "number of this process; msrun's own value wins", minimum=0, affects_training=False)
    group_size: int = key(1, "number of processes; msrun's own value wins", minimum=1)
    seed: int = key(1, "seed of weights, order and augmentation", minimum=0, maximum=2**31 - 1)
    need_profiler: bool = key(
        False, "record a profile of the first steps with MindSpore's profiler", affects_training=False
    )


@dataclass(frozen=True)
class OptimizerKeys:
    """Optimiser and schedule"""

    per_batch_size: int = key(16, "training images a step and process", minimum=1, maximum=65536)
    max_epoch: int = key(135, "epochs to train", minimum=1)
    lr: float = key(0.001, "learning rate after the warm-up", above=0)
    lr_scheduler: str = key(
        "cosine_annealing",
        "course of the learning rate",
        choices=(
            "exponential",
            "cosine_annealing",
            "cosine_annealing_V2",
            "cosine_annealing_sample",
            "cosine_per_step",
        ),
    )
    lr_epochs: tuple[int, ...] = key(
        (92, 105), "exponential: epochs at which the rate is multiplied by lr_gamma", minimum=0
    )
    lr_gamma: float = key(0.1, "exponential: the factor", above=0, maximum=1)
    eta_min: float = key(0.0, "cosine: the rate at its end", minimum=0)
    t_max: int = key(
        135, "cosine: epochs of the half period; at least max_epoch is used by cosine_annealing", minimum=1
    )
    warmup_epochs: float = key(0.0, "epochs of linear rise to lr; fractions count", minimum=0)
    lr_warmup_init: float = key(0.0, "rate of the first step of the warm-up; 0: that of one step's rise", minimum=0)
    momentum: float = key(0.9, "momentum of SGD", minimum=0, maximum=1)
    weight_decay: float = key(
        5e-4, "L2 penalty on convolution weights; on biases and batch norm only with decay_norm_and_bias", minimum=0
    )
    decay_norm_and_bias: bool = key(False, "weight_decay on biases, batch norm and the weights of fusions too")
    loss_weight: float = key(
        1.0, "factor of the gradient before the optimiser; the log shows the loss without it", above=0
    )
    loss_scale: float = key(1024.0, "static loss scale: guards fp16 gradients, without effect on the result", minimum=1)
    dynamic_loss_scale: bool = key(False, "let the loss scale follow overflows")
    max_skipped_steps: int = key(
        50,
        "fp16: steps with an overflow, which are left out, in a row after which training stops and keeps the step in "
        "debug/",
        minimum=1,
        affects_training=False,
    )
    clip_grad_norm: float = key(0.0, "largest global norm of the gradient after loss_weight; 0: no limit", minimum=0)
    clip_grad_norm_each: float = key(
        0.0, "largest norm of the gradient of each weight, applied before clip_grad_norm; 0: no limit", minimum=0
    )
    accumulate_steps: int = key(1, "batches whose gradients make one step", minimum=1)
    ema_decay: float = key(0.0, "decay per step of the averaged weights; 0: no averaging", minimum=0, maximum=0.999999)
    amp_level: str = key(
        "auto",
        "mixed precision: none, fp16 but for batch norm and loss, all fp16; auto: none, and on Ascend ascend_amp_level",
        choices=("auto", "O0", "O2", "O3"),
    )
    ascend_amp_level: str = key("O0", "what amp_level auto is on Ascend", choices=("O0", "O2", "O3"))
    freeze_bn: bool = key(False, "batch norm uses its running statistics in training too and leaves them as they are")
    label_smooth: bool = key(False, "smooth the class targets")
    label_smooth_factor: float = key(0.1, "how much the true class gives to the others", minimum=0, maximum=1)


@dataclass(frozen=True)
class StartKeys:
    """Where training starts"""

    pretrained: str = key(
        "", "weights of the whole network: to start training from, or to evaluate", path=True, affects_training=False
    )
    pretrained_backbone: str = key("", "weights of the backbone alone", path=True, affects_training=False)
    filter_weight: bool = key(False, "leave out the weights of the last layers (other classes than the checkpoint's)")
    resume: str = key(
        "",
        "continue a run: auto (the newest state under ckpt_path), or a checkpoint",
        path=True,
        affects_training=False,
    )
    resume_force: bool = key(False, "continue although keys that change the result differ", affects_training=False)


@dataclass(frozen=True)
class OutputKeys:
    """Output"""

    ckpt_path: str = key(
        "outputs/", "folder of the run's checkpoints, logs and results", path=True, affects_training=False
    )
    run_name: str = key(
        "", "folder of the run inside ckpt_path; empty: the date and time of its start", affects_training=False
    )
    ckpt_interval: int = key(
        1, "epochs (not steps) between checkpoints", minimum=1, means_default=("None", "-1", ""), affects_training=False
    )
    save_checkpoint: bool = key(
        True, "write checkpoints; False: none, and nothing to continue from", affects_training=False
    )
    keep_checkpoint_max: int = key(10, "newest checkpoints kept", minimum=1, affects_training=False)
    is_save_on_master: bool = key(True, "only process 0 saves; False: every process", affects_training=False)
    log_interval: int = key(100, "steps between log lines", minimum=1, affects_training=False)
    log_path: str = key("outputs/", "folder of the logs of an evaluation", path=True, affects_training=False)
    summary_dir: str = key(
        "",
        "folder of TensorBoard events and CSV, in it one with the name of each run; empty: in the run's folder",
        path=True,
        affects_training=False,
    )
    progress: str = key(
        "auto", "auto: a bar in a terminal, else lines", choices=("auto", "bar", "lines", "off"), affects_training=False
    )
    font: str = key(
        "",
        "font file for names on pictures and charts; empty: those of the system",
        path=True,
        affects_training=False,
    )


@dataclass(frozen=True)
class ModelArtsKeys:
    """ModelArts"""

    enable_modelarts: bool = key(
        False, "fetch data from data_url, deliver results to train_url", affects_training=False
    )
    data_url: str = key("", "bucket (obs://, s3://) or folder of the data", affects_training=False)
    train_url: str = key("", "bucket or folder that results are delivered to", affects_training=False)
    checkpoint_url: str = key("", "bucket or folder of checkpoints to fetch into load_path", affects_training=False)
    data_path: str = key("/cache/data", "local folder of the fetched data", path=True, affects_training=False)
    output_path: str = key("/cache/train", "local folder of the results", path=True, affects_training=False)
    load_path: str = key(
        "/cache/checkpoint_path", "local folder of the fetched checkpoints", path=True, affects_training=False
    )
    need_modelarts_dataset_unzip: bool = key(True, "unpack zip files among the fetched data", affects_training=False)
    modelarts_dataset_unzip_name: str = key(
        "coco", "name of the zip file without .zip; if there is none of that name, all are unpacked",
        affects_training=False,
    )  # fmt: skip


@dataclass(frozen=True)
class EvalKeys:
    """Evaluation"""

    run_eval: bool = key(False, "evaluate while training", affects_training=False)
    eval_start_epoch: int = key(
        1, "first epoch (from 1) after which run_eval evaluates", minimum=0, affects_training=False
    )
    eval_interval: int = key(1, "epochs between evaluations", minimum=1, affects_training=False)
    save_best_ckpt: bool = key(True, "with run_eval: keep the best weights beside the newest", affects_training=False)
    eval_batch_size: int = key(1, "images a batch at evaluation", minimum=1, maximum=65536, affects_training=False)
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
    detections: str = key(
        "", "score this detections file: no network runs, and no images are needed", path=True, affects_training=False
    )
    override: bool = key(
        True,
        "run the network again; False: score the newest result in log_path of the same weights, images and thresholds",
        affects_training=False,
    )
    scorer: str = key(
        "hotcoco", "implementation of the COCO metrics", choices=("hotcoco", "pycocotools"), affects_training=False
    )
    voc_metric: str = key(
        "11_points",
        "which mean of VOC's average precision is the score: that of 2007, or since 2010 the whole curve",
        choices=("11_points", "all_points"),
        affects_training=False,
    )
    draw_images: int = key(0, "pictures with drawn boxes to save at evaluation", minimum=0, affects_training=False)
    result_view: bool = key(
        False, "save a picture of every image, detections beside the ground truth", affects_training=False
    )
    recommend_threshold: bool = key(
        False, "save the precision-recall curve and the best score threshold of each class", affects_training=False
    )
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
