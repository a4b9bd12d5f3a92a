"""Keys of the classifiers: configuration and flags of the old zoo; contradictions are reported."""

import pytest

from msdet.config import load_config, parse_command_line
from msdet.errors import UsageError

CONFIG = "configs/darknet53_imagenet.yaml"

# imagenet_config.yaml of the old zoo, and the keys that it sets here.
IMAGENET_CONFIG = """\
device_target: "GPU"
run_distributed: True
device_num: ""
net: "darknet53"
dataset: "imagenet2012"
dataset_path: ""
pre_trained: ""
class_num: 1000
epoch_num: 150
pretrained_epoch_num: 0
batch_size: 256
momentum: 0.9
loss_scale: 1024
weight_decay: 0.0001
use_label_smooth: True
label_smooth_factor: 0.1
lr: 0.1
lr_scheduler: "cosine_annealing"
eta_min: 0
T_max: 150
warmup_epochs: 5
checkpoint_path: ""
save_checkpoint: True
save_checkpoint_epochs: 5
keep_checkpoint_max: 90
save_checkpoint_path: "./"
summary_dir: "./summary_dir"
"""
EXPECTED = {
    "device_target": "GPU", "is_distributed": True, "group_size": 1, "model": "darknet53", "dataset": "imagenet2012",
    "data_dir": "", "pretrained": "", "num_classes": 1000, "max_epoch": 150, "pretrained_epochs": 0,
    "per_batch_size": 256, "momentum": 0.9, "loss_scale": 1024.0, "weight_decay": 1e-4, "label_smooth": True,
    "label_smooth_factor": 0.1, "lr": 0.1, "lr_scheduler": "cosine_annealing", "eta_min": 0.0, "t_max": 150,
    "warmup_epochs": 5.0, "save_checkpoint": True, "ckpt_interval": 5, "keep_checkpoint_max": 90, "ckpt_path": "./",
    "summary_dir": "./summary_dir",
}  # fmt: skip


def test_the_file_of_the_old_zoo_is_a_config(tmp_path):
    (tmp_path / "imagenet_config.yaml").write_text(IMAGENET_CONFIG)
    cfg = parse_command_line(["--config", str(tmp_path / "imagenet_config.yaml")], "train")
    found = cfg.to_dict()
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert len(EXPECTED) == len(IMAGENET_CONFIG.splitlines()) - 1, "checkpoint_path is pretrained too"


def test_the_recipe_equals_the_file_of_the_old_zoo():
    """Except for keys of devices and folders."""
    found = load_config(CONFIG).to_dict()
    places = ("device_target", "is_distributed", "dataset", "ckpt_path", "summary_dir")
    assert {n: found[n] for n in EXPECTED if n not in places} == {n: v for n, v in EXPECTED.items() if n not in places}
    assert (found["decay_norm_and_bias"], found["bn_momentum"], found["training_shape"]) == (False, 0.9, "256")


@pytest.mark.parametrize(
    ("script", "flags", "key", "value"),
    [
        ("train", "--net darknet53 --dataset imagenet2012", "dataset", "imagenet2012"),
        ("train", "--run_distribute=True", "is_distributed", True),
        ("train", "--dataset_path /data", "data_dir", "/data"),
        ("train", "--pre_trained c.ckpt", "pretrained", "c.ckpt"),
        ("train", "--parameter_server False", "is_distributed", False),
        ("train", "--pretrained_epoch_num 3 --pre_trained c.ckpt", "pretrained_epochs", 3),
        ("train", "--batch_size 32", "per_batch_size", 32),
        ("eval", "--checkpoint_path c.ckpt", "pretrained", "c.ckpt"),
        ("eval", "--batch_size 32", "eval_batch_size", 32),
        ("export", "--ckpt_file c.ckpt --batch_size 1 --network_dataset imagenet2012", "export_batch_size", 1),
        ("export", "--width 224 --height 224", "testing_shape", 224),
        ("train", "--image_size 224,224", "training_shape", "224"),
        ("train", "--is_dynamic_loss_scale 0", "dynamic_loss_scale", False),
        ("train", "--label_smooth 1 --ckpt_save_max 10", "keep_checkpoint_max", 10),
    ],
)
def test_old_flags(script, flags, key, value):
    cfg = parse_command_line(["--config", CONFIG, *flags.split()], script)
    assert cfg.to_dict()[key] == value


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        ("--image_size 224,320", ["image_size", "square"]),
        ("--eval_resize 200", ["eval_resize", "200", "testing_shape 256"]),
        ("--training_shape=", ["training_shape", "one size"]),
        ("--crop_area 1,0.1", ["crop_area", "minimum, maximum"]),
        ("--crop_aspect 2,1", ["crop_aspect", "minimum, maximum"]),
        ("--backbone_shape 4,4,8,8", ["backbone_shape", "4 values"]),
        ("--backbone_shape 4,4,8,8,8,9", ["backbone_shape", "odd"]),
        ("--backbone_layers 1,1", ["backbone_layers", "2 values"]),
        ("--num_classes 1", ["num_classes", "at least two classes"]),
        ("--pretrained_epoch_num 150 --pretrained c.ckpt", ["pretrained_epoch_num", "leaves no epoch"]),
        ("--parameter_server 1", ["parameter_server", "is_distributed"]),
        ("--activation mish", ["activation", "mish", "leaky"]),
        ("--dataset cifar10", ["dataset", "cifar10", "imagefolder"]),
        ("--pre_trained a.ckpt --checkpoint_path b.ckpt", ["pretrained"]),
        ("--width 224 --height 256", ["testing_shape"]),
    ],
)
def test_contradictions_are_reported(flags, fragments):
    script = "export" if "--width" in flags else "train"
    with pytest.raises(UsageError) as error:
        parse_command_line(["--config", CONFIG, *flags.split()], script)
    assert all(fragment in str(error.value) for fragment in fragments)


def test_the_resize_before_the_crop():
    assert load_config(CONFIG).resize_px == 292
    cfg = load_config("configs/cspdarknet53_imagenet.yaml")
    assert (cfg.resize_px, cfg.resize, cfg.testing_shape) == (256, "stretch", 224)
    assert load_config(CONFIG, ["--eval_resize=256"]).resize_px == 256
