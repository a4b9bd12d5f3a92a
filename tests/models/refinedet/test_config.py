"""Every documented flag and key of RefineDet, for each script."""

import math
from pathlib import Path

import pytest

import train as training
from msdet.config import load_config, parse_command_line
from msdet.errors import UsageError
from msdet.training.schedules import build_schedule

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
CONFIG = CONFIGS / "refinedet_vgg16_320.yaml"
MODES = ["refinedet_vgg16_320", "refinedet_vgg16_512", "refinedet_resnet101_320", "refinedet_resnet101_512"]

# script -> flag as documented -> (key, value)
FLAGS = {
    "train": {
        "--run_platform=GPU": ("device_target", "GPU"),
        "--distribute=True": ("is_distributed", True),
        "--device_id=3": ("device_id", 3),
        "--device_num=8": ("group_size", 8),
        "--lr=0.05": ("lr", 0.05),
        "--mode=sink": ("mode", "graph"),
        "--mode=graph": ("mode", "graph"),
        "--epoch_size=500": ("max_epoch", 500),
        "--batch_size=16": ("per_batch_size", 16),
        "--pre_trained=a.ckpt": ("pretrained", "a.ckpt"),
        "--save_checkpoint_epochs=5": ("ckpt_interval", 5),
        "--loss_scale=512": ("loss_scale", 512.0),
        "--filter_weight=True": ("filter_weight", True),
        "--freeze_layer=backbone": ("freeze_layer", "backbone"),
        "--check_point=./ckpt": ("ckpt_path", "./ckpt"),
        "--run_online=True": ("enable_modelarts", True),
        "--data_url=obs://coco": ("data_url", "obs://coco"),
        "--train_url=obs://out": ("train_url", "obs://out"),
        "--pre_trained_url=obs://ckpt": ("checkpoint_url", "obs://ckpt"),
        "--class_num=21": ("num_classes", 20),
        "--match_threshold=0.6": ("match_threshold", 0.6),
        "--objectness_thre=0.02": ("objectness_threshold", 0.02),
        "--max_boxes=200": ("max_boxes", 200),
        "--pretrained_backbone=v.ckpt": ("pretrained_backbone", "v.ckpt"),
        "--mine_filtered_anchors=1": ("mine_filtered_anchors", True),
    },
    "eval": {
        "--device_id=1": ("device_id", 1),
        "--checkpoint_path=a.ckpt": ("pretrained", "a.ckpt"),
        "--run_platform=CPU": ("device_target", "CPU"),
        "--batch_size=4": ("eval_batch_size", 4),
        "--nms_threshold=0.6": ("nms_thresh", 0.6),
        "--min_score=0.1": ("eval_ignore_threshold", 0.1),
    },
    "export": {
        "--batch_size=2": ("export_batch_size", 2),
        "--ckpt_file=a.ckpt": ("pretrained", "a.ckpt"),
        "--file_name=refinedet": ("file_name", "refinedet"),
        "--file_format=ONNX": ("file_format", "ONNX"),
        "--device_target=Ascend": ("device_target", "Ascend"),
    },
    "postprocess": {
        "--result_path=r": ("result_path", "r"),
        "--img_path=val2017": ("val_image_dir", "val2017"),
        "--min_score=0.1": ("eval_ignore_threshold", 0.1),
    },
}


@pytest.mark.parametrize(("script", "flag"), [(script, flag) for script, flags in FLAGS.items() for flag in flags])
def test_a_documented_flag(script, flag):
    key, value = FLAGS[script][flag]
    cfg = load_config(CONFIG, [flag], script)
    assert getattr(cfg, key) == value
    assert type(getattr(cfg, key)) is type(value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("others", [[], ["--config", str(CONFIG)]], ids=["alone", "beside_a_config"])
def test_using_mode_selects_a_config(mode, others):
    cfg = parse_command_line([*others, f"--using_mode={mode}"], "train")
    assert cfg.backbone == mode.split("_")[1]
    size = int(mode.split("_")[2])
    assert (cfg.training_sizes, cfg.testing_size) == (((size, size),), (size, size))


def test_using_mode_contradicts_another_config(tmp_path):
    (tmp_path / "own.yaml").write_text(f"base: {CONFIG}\n")
    with pytest.raises(UsageError, match="using_mode.*own.yaml"):
        parse_command_line(["--config", str(tmp_path / "own.yaml"), f"--using_mode={MODES[1]}"], "train")
    with pytest.raises(UsageError, match="refinedet_resnet101_320"):
        parse_command_line(["--using_mode=refinedet_resnet50"], "train")


@pytest.mark.parametrize("flag", ["--image_shape=[512,512]", "--image_shape=512,512"])
def test_image_shape_sets_the_sizes_of_training_and_evaluation(flag):
    cfg = load_config(CONFIG, [flag])
    assert (cfg.training_sizes, cfg.testing_size) == (((512, 512),), (512, 512))
    with pytest.raises(UsageError, match="--image_shape and --testing_shape both set testing_shape, to .* and '320'"):
        load_config(CONFIG, [flag, "--testing_shape=320"])


def test_epochs_of_the_pretrained_weights():
    flags = ["--pre_trained_epoch_size=20", "--pre_trained=a.ckpt"]
    assert load_config(CONFIG, flags).pretrained_epochs == 20
    with pytest.raises(UsageError, match="pre_trained_epoch_size .*pretrained_epochs.* pretrained is empty"):
        training.main(["--config", str(CONFIG), flags[0]])


def test_the_recipe_of_the_paper():
    cfg = load_config(CONFIG)
    assert (cfg.per_batch_size, cfg.lr, cfg.momentum, cfg.weight_decay) == (32, 0.001, 0.9, 5e-4)
    assert (cfg.lr_scheduler, cfg.lr_epochs, cfg.max_epoch) == ("exponential", (76, 98), 110)
    assert (cfg.match_threshold, cfg.neg_pos_ratio, cfg.objectness_threshold) == (0.5, 3, 0.01)
    assert (cfg.eval_ignore_threshold, cfg.nms_thresh, cfg.nms_top_k, cfg.max_detections) == (0.01, 0.45, 1000, 500)


@pytest.mark.parametrize("mode", MODES)
def test_the_recipe_of_the_seed(mode):
    """With the learning rate of the seed, steps and decay are as large as in the paper; the schedule is the seed's."""
    seed, paper = (load_config(CONFIGS / f"{name}.yaml") for name in (f"{mode}_seed", mode))
    assert (seed.max_epoch, seed.per_batch_size, seed.lr, seed.warmup_epochs) == (500, 32, 0.05, 2)
    assert seed.lr * seed.loss_weight == pytest.approx(paper.lr * paper.loss_weight)
    assert seed.lr * seed.weight_decay == pytest.approx(paper.lr * paper.weight_decay)
    assert (seed.backbone, seed.testing_size, seed.training_sizes) == (
        paper.backbone, paper.testing_size, paper.training_sizes,
    )  # fmt: skip
    rate = build_schedule(
        seed.lr_scheduler, seed.lr, 458, seed.max_epoch, seed.warmup_epochs, eta_min=seed.eta_min,
        lr_warmup_init=seed.lr_warmup_init,
    )  # fmt: skip
    assert (rate(0, 0), rate(498, 0)) == pytest.approx((0.001, 0.00005))
    # Schedule of the seed: half a cosine from the end of the warm-up to the end of the training.
    for epoch in (2, 100, 250, 400, 499):
        theirs = 0.05 * (0.001 + 0.999 * (1 + math.cos(math.pi * (epoch - 2) / 498)) / 2)
        assert rate(epoch, 0) == pytest.approx(theirs, abs=0.0005)


@pytest.mark.parametrize(
    ("flag", "fragment"),
    [
        ("--training_shape=300", "multiples of 64"),
        ("--testing_shape=352", "multiples of 64"),
        ("--image_shape=320,512", "square"),
        ("--class_num=1", "counts the background"),
        ("--class_num=many", "whole number"),
        ("--backbone=resnet50", "backbone"),
        ("--backbone_shape=8,8,8", "backbone_shape.*6"),
        ("--backbone_layers=1,1", "backbone_layers.*5"),
        ("--crop_scale=1,0.3", "minimum, maximum"),
    ],
)
def test_invalid_values(flag, fragment):
    with pytest.raises(UsageError, match=fragment):
        load_config(CONFIG, [flag])


def test_contradicting_numbers_of_classes():
    with pytest.raises(UsageError, match="--class_num and --num_classes both set num_classes, to '81' and '20'"):
        load_config(CONFIG, ["--class_num=81", "--num_classes=20"])
