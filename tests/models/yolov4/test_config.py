"""Every documented flag of YOLOv4, for each script."""

from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.errors import UsageError

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "yolov4.yaml"

# The parameters of train.py listed in the description of the old zoo.
PARAMETERS = [
    "device_target", "data_dir", "per_batch_size", "pretrained_backbone", "resume_yolov4", "lr_scheduler",
    "lr", "lr_epochs", "lr_gamma", "eta_min", "T_max", "max_epoch", "warmup_epochs", "weight_decay",
    "momentum", "loss_scale", "label_smooth", "label_smooth_factor", "log_interval", "ckpt_path",
    "ckpt_interval", "is_save_on_master", "is_distributed", "rank", "group_size", "need_profiler",
    "training_shape", "resize_rate",
]  # fmt: skip

# script -> flag as documented -> (key, value)
FLAGS = {
    "train": {
        "--device_target=Ascend": ("device_target", "Ascend"),
        "--data_dir=./dataset/xxx": ("data_dir", "./dataset/xxx"),
        "--per_batch_size=4": ("per_batch_size", 4),
        "--pretrained_backbone=cspdarknet53_backbone.ckpt": ("pretrained_backbone", "cspdarknet53_backbone.ckpt"),
        "--resume_yolov4=a.ckpt": ("pretrained", "a.ckpt"),
        "--pretrained_checkpoint=b.ckpt": ("pretrained", "b.ckpt"),
        "--filter_weight=True": ("filter_weight", True),
        "--lr_scheduler=exponential": ("lr_scheduler", "exponential"),
        "--lr_scheduler=cosine_annealing": ("lr_scheduler", "cosine_annealing"),
        "--lr=0.1": ("lr", 0.1),
        "--lr_epochs=200,240": ("lr_epochs", (200, 240)),
        "--lr_gamma=0.5": ("lr_gamma", 0.5),
        "--eta_min=0.001": ("eta_min", 0.001),
        "--T_max=300": ("t_max", 300),
        "--t_max=310": ("t_max", 310),
        "--max_epoch=3": ("max_epoch", 3),
        "--warmup_epochs=4": ("warmup_epochs", 4.0),
        "--weight_decay=0.001": ("weight_decay", 0.001),
        "--momentum=0.8": ("momentum", 0.8),
        "--loss_scale=128": ("loss_scale", 128.0),
        "--label_smooth=1": ("label_smooth", True),
        "--label_smooth_factor=0.2": ("label_smooth_factor", 0.2),
        "--log_interval=10": ("log_interval", 10),
        "--ckpt_path=outputs/x": ("ckpt_path", "outputs/x"),
        "--ckpt_interval=5": ("ckpt_interval", 5),
        "--ckpt_interval=None": ("ckpt_interval", 1),
        "--ckpt_interval=-1": ("ckpt_interval", 1),
        "--is_save_on_master=0": ("is_save_on_master", False),
        "--is_distributed=0": ("is_distributed", False),
        "--is_distributed=1": ("is_distributed", True),
        "--rank=0": ("rank", 0),
        "--group_size=8": ("group_size", 8),
        "--need_profiler=1": ("need_profiler", True),
        "--training_shape=416": ("training_shape", "416"),
        "--resize_rate=5": ("resize_rate", 5),
        "--run_eval=True": ("run_eval", True),
        "--save_best_ckpt=False": ("save_best_ckpt", False),
        "--eval_start_epoch=100": ("eval_start_epoch", 100),
        "--eval_interval=2": ("eval_interval", 2),
        "--mosaic=True": ("mosaic", True),
        "--transfer_train=True": ("filter_weight", True),
        "--num_classes=20": ("num_classes", 20),
        "--labels=cat,dog": ("class_names", ("cat", "dog")),
        "--max_box=60": ("max_boxes", 60),
        "--ann_file=a.json": ("train_ann_file", "a.json"),
        "--ann_val_file=v.json": ("val_ann_file", "v.json"),
        "--bbox_class_loss_coff=10,0.5,1": ("bbox_class_loss_coff", (10.0, 0.5, 1.0)),
        "--detect_head_loss_coff=1,1.5,0.4": ("detect_head_loss_coff", (1.0, 1.5, 0.4)),
        "--ignore_threshold=0.6": ("ignore_threshold", 0.6),
        "--enable_modelarts=True": ("enable_modelarts", True),
        "--checkpoint_url=s3://dir/": ("checkpoint_url", "s3://dir/"),
        "--data_url=s3://data/": ("data_url", "s3://data/"),
        "--train_url=s3://out/": ("train_url", "s3://out/"),
        "--data_path=/a": ("data_path", "/a"),
        "--output_path=/b": ("output_path", "/b"),
        "--load_path=/c": ("load_path", "/c"),
        "--need_modelarts_dataset_unzip=False": ("need_modelarts_dataset_unzip", False),
        "--modelarts_dataset_unzip_name=mine": ("modelarts_dataset_unzip_name", "mine"),
        "--hue=0.2": ("hue", 0.2),
        "--saturation=1.2": ("saturation", 1.2),
        "--value=1.3": ("value", 1.3),
        "--jitter=0.1": ("jitter", 0.1),
        "--multi_scale=[[416,416],[448,448]]": ("multi_scale", ((416, 416), (448, 448))),
        "--anchor_scales=" + str([[n, n] for n in range(1, 10)]): (
            "anchors",
            tuple((float(n),) * 2 for n in range(1, 10)),
        ),
    },
    "eval": {
        "--data_dir=./dataset/coco2017": ("data_dir", "./dataset/coco2017"),
        "--pretrained=yolov4.ckpt": ("pretrained", "yolov4.ckpt"),
        "--testing_shape=608": ("testing_shape", 608),
        "--testing_shape=416": ("testing_shape", 416),
        "--per_batch_size=2": ("eval_batch_size", 2),
        "--log_path=logs": ("log_path", "logs"),
        "--nms_thresh=0.5": ("nms_thresh", 0.5),
        "--eval_ignore_threshold=0.01": ("eval_ignore_threshold", 0.01),
        "--ignore_threshold=0.02": ("eval_ignore_threshold", 0.02),
        "--multi_label=True": ("multi_label", True),
        "--multi_label_thresh=0.3": ("multi_label_thresh", 0.3),
        "--result_view=True": ("result_view", True),
        "--recommend_threshold=True": ("recommend_threshold", True),
        "--annFile=v.json": ("val_ann_file", "v.json"),
        "--device_id=3": ("device_id", 3),
    },
    "test": {
        "--data_dir=./dataset/coco2017": ("data_dir", "./dataset/coco2017"),
        "--pretrained=yolov4.ckpt": ("pretrained", "yolov4.ckpt"),
        "--testing_shape=608": ("testing_shape", 608),
        "--test_nms_thresh=0.45": ("test_nms_thresh", 0.45),
        "--test_ignore_threshold=0.01": ("test_ignore_threshold", 0.01),
        "--nms_thresh=0.4": ("test_nms_thresh", 0.4),
        "--eval_ignore_threshold=0.02": ("test_ignore_threshold", 0.02),
        "--per_batch_size=2": ("eval_batch_size", 2),
        "--ann_file=t.json": ("test_ann_file", "t.json"),
        "--log_path=logs": ("log_path", "logs"),
    },
    "export": {
        "--ckpt_file=yolov4.ckpt": ("pretrained", "yolov4.ckpt"),
        "--file_name=yolov4": ("file_name", "yolov4"),
        "--file_format=AIR": ("file_format", "AIR"),
        "--file_format=ONNX": ("file_format", "ONNX"),
        "--file_format=MINDIR": ("file_format", "MINDIR"),
        "--batch_size=1": ("export_batch_size", 1),
        "--testing_shape=416": ("testing_shape", 416),
        "--keep_detect=False": ("keep_detect", False),
        "--device_id=1": ("device_id", 1),
    },
}


@pytest.mark.parametrize(("script", "flag"), [(script, flag) for script, flags in FLAGS.items() for flag in flags])
def test_a_documented_flag(script, flag):
    key, value = FLAGS[script][flag]
    cfg = load_config(CONFIG, ["--num_classes=0", flag], script)
    assert getattr(cfg, key) == value
    assert type(getattr(cfg, key)) is type(value)


def test_every_documented_parameter_is_in_the_table():
    tested = {flag.removeprefix("--").split("=")[0] for flag in FLAGS["train"]}
    assert set(PARAMETERS) <= tested


def test_the_recipe():
    cfg = load_config(CONFIG)
    assert (cfg.max_epoch, cfg.warmup_epochs, cfg.lr, cfg.loss_weight) == (320, 20, 0.012, 1 / 64)
    assert cfg.training_sizes == tuple((size, size) for size in range(416, 737, 32)) and cfg.resize_rate == 10
    assert (cfg.testing_size, cfg.nms_type, cfg.nms_thresh, cfg.test_nms_thresh) == ((608, 608), "diou", 0.6, 0.6)


def test_keys_in_a_file_mean_the_same_for_all_scripts(tmp_path):
    """nms_thresh in a file is that of eval.py, even when test.py reads it."""
    path = tmp_path / "a.yaml"
    path.write_text("model: yolov4\nnms_thresh: 0.3\nper_batch_size: 5\n")
    cfg = load_config(path, [], "test")
    assert (cfg.nms_thresh, cfg.test_nms_thresh, cfg.per_batch_size, cfg.eval_batch_size) == (0.3, 0.6, 5, 1)


@pytest.mark.parametrize(
    ("flag", "fragment"),
    [
        ("--iou_loss=iou", "iou_loss"),
        ("--scale_x_y=0.5,1,1", "scale_x_y"),
        ("--bbox_class_loss_coff=1,2", "bbox_class_loss_coff"),
        ("--anchors=1,2,3,4", "anchors"),
        ("--testing_shape=600", "testing_shape"),
        ("--backbone_shape=32,64,128", "backbone_shape"),
        ("--mosaic_probability=2", "mosaic_probability"),
    ],
)
def test_invalid_values(flag, fragment):
    with pytest.raises(UsageError, match=fragment):
        load_config(CONFIG, [flag])
