"""Every documented flag and key of EfficientDet-D0, for each script."""

from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.errors import UsageError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
CONFIG = CONFIGS / "efficientdet_d0.yaml"
SEED = CONFIGS / "efficientdet_d0_seed.yaml"

# script -> flag as documented -> (key, value)
FLAGS = {
    "train": {
        "--run_platform=Ascend": ("device_target", "Ascend"),
        "--distribute=True": ("is_distributed", True),
        "--data_url=obs://coco": ("data_url", "obs://coco"),
        "--train_url=obs://out": ("train_url", "obs://out"),
        "--checkpoint_path=a.ckpt": ("pretrained", "a.ckpt"),
        "--is_modelarts=True": ("enable_modelarts", True),
        "--is_modelarts=False": ("enable_modelarts", False),
        "--coco_root=/data/coco": ("data_dir", "/data/coco"),
        "--save_checkpoint_epochs=5": ("ckpt_interval", 5),
        "--save_checkpoint_path=./ckpt": ("ckpt_path", "./ckpt"),
        "--keep_checkpoint_max=3": ("keep_checkpoint_max", 3),
        "--epoch_size=500": ("max_epoch", 500),
        "--batch_size=16": ("per_batch_size", 16),
        "--num_efficient_boxes=64": ("max_boxes", 64),
        "--workers=24": ("num_parallel_workers", 24),
        "--drop_connect_rate=0.1": ("drop_connect", 0.1),
        "--pretrained_backbone=b0.ckpt": ("pretrained_backbone", "b0.ckpt"),
        "--scale_jitter=0.5,1.5": ("jitter_scale", (0.5, 1.5)),
        "--decay_norm_and_bias=1": ("decay_norm_and_bias", True),
        "--focal_gamma=2": ("focal_gamma", 2.0),
        "--loss_normalizer=image": ("loss_normalizer", "image"),
    },
    "eval": {
        "--run_platform=CPU": ("device_target", "CPU"),
        "--data_url=obs://coco": ("data_url", "obs://coco"),
        "--train_url=obs://out": ("train_url", "obs://out"),
        "--checkpoint_path=a.ckpt": ("pretrained", "a.ckpt"),
        "--is_modelarts=True": ("enable_modelarts", True),
        "--override=False": ("override", False),
        "--override=True": ("override", True),
        "--nms_threshold=0.6": ("nms_thresh", 0.6),
        "--score_threshold=0.05": ("eval_ignore_threshold", 0.05),
        "--project=coco": ("dataset", "coco"),
        "--compound_coef=0": ("model", "efficientdet_d0"),
        "--batch_size=4": ("eval_batch_size", 4),
    },
    "export": {
        "--pre_trained=a.ckpt": ("pretrained", "a.ckpt"),
        "--file_format=MINDIR": ("file_format", "MINDIR"),
        "--file_format=AIR": ("file_format", "AIR"),
        "--device_target=Ascend": ("device_target", "Ascend"),
    },
    "predict": {"--nms_threshold=0.6": ("nms_thresh", 0.6)},
    "postprocess": {"--nms_threshold=0.6": ("nms_thresh", 0.6)},
}


@pytest.mark.parametrize(("script", "flag"), [(script, flag) for script, flags in FLAGS.items() for flag in flags])
def test_a_documented_flag(script, flag):
    key, value = FLAGS[script][flag]
    cfg = load_config(CONFIG, [flag], script)
    assert getattr(cfg, key) == value
    assert type(getattr(cfg, key)) is type(value)


def test_the_recipe_of_the_paper():
    cfg = load_config(CONFIG)
    assert (cfg.per_batch_size, cfg.lr, cfg.warmup_epochs, cfg.max_epoch) == (16, 0.16, 1, 300)
    assert (cfg.ema_decay, cfg.clip_grad_norm, cfg.weight_decay, cfg.decay_norm_and_bias) == (0.9998, 10, 4e-5, False)
    assert (cfg.jitter_scale, cfg.focal_gamma, cfg.box_loss, cfg.loss_normalizer) == ((0.1, 2), 1.5, "huber", "batch")
    assert (cfg.positive_iou, cfg.negative_iou, cfg.force_match, cfg.nms_type) == (0.5, 0.5, True, "soft")
    assert (cfg.lr_scheduler, cfg.lr_warmup_init, cfg.clip_grad_norm_each) == ("cosine_per_step", 0.016, 10)
    assert (cfg.label_map, cfg.num_classes, cfg.resize) == ("coco_id_minus_1", 90, "letterbox_top_left")


def test_the_recipe_of_the_seed():
    cfg = load_config(SEED)
    assert (cfg.per_batch_size, cfg.lr, cfg.warmup_epochs, cfg.max_epoch) == (16, 0.012, 50, 500)
    assert (cfg.ema_decay, cfg.clip_grad_norm, cfg.weight_decay, cfg.decay_norm_and_bias) == (0, 0, 5e-4, True)
    assert (cfg.jitter_scale, cfg.focal_gamma, cfg.box_loss, cfg.loss_normalizer) == ((1, 1), 2, "smooth_l1", "image")
    assert (cfg.eval_ignore_threshold, cfg.nms_thresh, cfg.max_detections) == (0.05, 0.5, 100)
    assert (cfg.positive_iou, cfg.negative_iou, cfg.force_match, cfg.nms_type) == (0.5, 0.4, False, "greedy")


@pytest.mark.parametrize(
    ("flag", "fragment"),
    [
        ("--training_shape=500", "multiples of 128"),
        ("--testing_shape=320", "multiples of 128"),
        ("--training_shape=", "one size"),
        ("--resize=stretch", "resize"),
        ("--compound_coef=1", "compound_coef"),
        ("--backbone_shape=32,16", "backbone_shape"),
        ("--backbone_layers=1,2", "backbone_layers"),
        ("--negative_iou=0.6", "negative_iou"),
        ("--box_loss=giou", "box_loss"),
    ],
)
def test_invalid_values(flag, fragment):
    overrides = [flag, "--multi_scale=512,640"] if flag == "--training_shape=" else [flag]
    with pytest.raises(UsageError, match=fragment):
        load_config(CONFIG, overrides)
