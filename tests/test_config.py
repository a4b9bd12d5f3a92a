"""Configuration: typed values from YAML and command line, their errors, old flag names, files written and read back."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.compat.aliases import file_aliases, flag_aliases
from msdet.config import Config, diff_configs, key, load_config, parse_command_line, resolve_classes
from msdet.config.key import Key, keys_of
from msdet.config.model_table import config_class, model_table
from msdet.errors import UsageError, UserError
from msdet.models.yolov3_quant.config import YoloV3Config

ROOT = Path(__file__).resolve().parents[1]
YOLOV3 = ROOT / "configs" / "yolov3.yaml"


@pytest.fixture
def write(tmp_path):
    """Writes a YAML file and returns its path."""

    def write_file(text: str, name: str = "a.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def refused(path, *overrides, script="train") -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides, script)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert len(message.splitlines()) <= 2
    return message


# Layers


def test_defaults_then_base_then_file_then_command_line(write):
    write("model: yolov3\nlr: 0.5\nmax_epoch: 7\nmomentum: 0.8\n", "bases/b.yaml")
    path = write("base: bases/b.yaml\nlr: 0.25\nmax_epoch: 8\n")
    cfg = load_config(path, ["--max_epoch=9"])
    assert isinstance(cfg, YoloV3Config)
    assert (cfg.momentum, cfg.lr, cfg.max_epoch, cfg.weight_decay) == (0.8, 0.25, 9, YoloV3Config.weight_decay)
    assert cfg.where("momentum").endswith("bases/b.yaml:4: momentum")
    assert cfg.where("lr") == f"{path}:2: lr"
    assert cfg.where("max_epoch") == "--max_epoch"
    assert cfg.where("weight_decay") == "weight_decay (default)"


def test_every_committed_config_loads():
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    assert configs
    for path in configs:
        cfg = load_config(path)
        assert type(cfg) is config_class(cfg.model)
        text = path.read_text(encoding="utf-8")
        for word in ("# Command:", "# Hardware:", "# Expected:"):
            assert word in text, f"{path.name} has no {word}"


def test_base_circle_and_missing_base_are_refused(write):
    write("base: a.yaml\n", "b.yaml")
    assert "b.yaml:1: base:" in refused(write("base: b.yaml\n")) and "cycle" in refused(write("base: b.yaml\n"))
    message = refused(write("model: yolov3\nbase: none.yaml\n"))
    assert "a.yaml:2: base:" in message and "none.yaml: no such config file" in message and "b.yaml" in message
    assert "base takes the path" in refused(write("base: [x]\n"))


def test_model_is_needed_and_named_by_its_nearest(write):
    assert "`model:` is missing" in refused(write("lr: 0.1\n"))
    message = refused(write("lr: 0.1\nmodel: yolo3\n"))
    assert "a.yaml:2" in message and "did you mean 'yolov3'" in message
    assert load_config(write("lr: 0.1\n"), ["--model=yolov3"]).model == "yolov3"


# Values


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("--lr=1e-3", "lr", 1e-3),
        ("--lr=1", "lr", 1.0),
        ("--max_epoch=3", "max_epoch", 3),
        ("--is_distributed=0", "is_distributed", False),
        ("--is_distributed=1", "is_distributed", True),
        ("--run_eval=True", "run_eval", True),
        ("--run_eval=false", "run_eval", False),
        ("--run_eval", "run_eval", True),
        ("--lr_epochs=92,105", "lr_epochs", (92, 105)),
        ("--lr_epochs=[220, 250]", "lr_epochs", (220, 250)),
        ("--lr_epochs=30", "lr_epochs", (30,)),
        ("--lr_epochs=", "lr_epochs", ()),
        ("--training_shape=416", "training_shape", "416"),
        ("--training_shape=", "training_shape", ""),
        ("--multi_scale=320,352", "multi_scale", ((320, 320), (352, 352))),
        ("--multi_scale=[[320,640],[352,352]]", "multi_scale", ((320, 640), (352, 352))),
        ("--class_names=traffic light, no,2", "class_names", ("traffic light", "no", "2")),
        ("--anchors=" + ",".join(map(str, range(1, 19))), "anchors", tuple((i, i + 1.0) for i in range(1, 19, 2))),
        ("--mean=0.5,0.5,0.5", "mean", (0.5, 0.5, 0.5)),
        ("--ckpt_interval=-1", "ckpt_interval", 1),
        ("--ckpt_interval=None", "ckpt_interval", 1),
        ("--resize_rate=None", "resize_rate", 1),
        ("--resize_rate=0", "resize_rate", 1),
        ("--testing_shape=", "testing_shape", 416),
        ("--device_target=ascend", "device_target", "Ascend"),
        ("--data_dir=~/coco", "data_dir", str(Path("~/coco").expanduser())),
        ("--pretrained=a=b.ckpt", "pretrained", "a=b.ckpt"),
    ],
)
def test_a_flag_becomes_a_typed_value(flag, name, value):
    cfg = load_config(YOLOV3, ["--num_classes=0", flag])
    assert getattr(cfg, name) == value
    assert type(getattr(cfg, name)) is type(value)


def test_a_flag_and_its_value_may_be_two_words():
    cfg = load_config(YOLOV3, ["--lr", "0.5", "--run_eval", "--ckpt_interval", "-1", "--resume", "auto"])
    assert (cfg.lr, cfg.run_eval, cfg.ckpt_interval, cfg.resume) == (0.5, True, 1, "auto")


def test_yaml_values_follow_the_type_of_the_key_not_of_yaml(write):
    cfg = load_config(
        write(
            "model: yolov3\ntraining_shape: 416\nlr: 1e-3\nweight_decay: 5\nclass_names: [person, no, 1, 1e3]\n"
            "lr_epochs: '92,105'\nlabel_smooth: 1\nresize_rate: null\npretrained:\nseed: 0\naugment: False\n"
            "multi_scale:\n  - [320, 320]\n  - [352, 352]\n"
        )
    )
    assert cfg.training_shape == "416"
    assert (cfg.lr, cfg.weight_decay) == (1e-3, 5.0)
    assert cfg.class_names == ("person", "no", "1", "1e3")
    assert cfg.lr_epochs == (92, 105)
    assert (cfg.label_smooth, cfg.resize_rate, cfg.pretrained, cfg.augment) == (True, 1, "", False)
    assert cfg.multi_scale == ((320, 320), (352, 352))


@pytest.mark.parametrize(
    ("line", "expects"),
    [
        ("lr: abc", "it takes a number above 0"),
        ("lr: 0", "above 0"),
        ("lr: .nan", "takes a number"),
        ("lr: .inf", "takes a number"),
        ("lr: true", "takes a number"),
        ("lr: [1, 2]", "takes a number"),
        ("momentum: 1.5", "takes a number from 0 to 1"),
        ("per_batch_size: 0", "takes a whole number from 1 to 65536"),
        ("per_batch_size: 2.5", "takes a whole number"),
        ("per_batch_size: true", "takes a whole number"),
        ("per_batch_size: 1e400", "takes a whole number"),
        ("label_smooth: 2", "takes 0/1 or True/False"),
        ("lr_scheduler: cosine", "takes one of 'exponential', 'cosine_annealing'"),
        ("lr_gamma: 0", "takes a number above 0, at most 1"),
        ("lr_epochs: [1, x]", "takes a list of whole numbers such as 92,105"),
        ("lr_epochs: [[1, 2]]", "takes a list of whole numbers"),
        ("data_dir: [a]", "takes a text"),
        ("mean: [0.5, 0.5]", "takes a list of 3 numbers"),
        ("mean: [0.5, 0.5, 124]", "takes a list of 3 numbers"),
        ("anchors: [1, 2, 3]", "takes a list of pairs"),
        ("anchors: '[[1, 2'", "takes a list of pairs"),
    ],
)
def test_a_wrong_value_names_file_line_key_and_what_it_takes(write, line, expects):
    message = refused(write(f"model: yolov3\n\n{line}\n"))
    assert message.startswith(str(write(f"model: yolov3\n\n{line}\n")) + f":3: {line.split(':')[0]} is ")
    assert expects in message


def test_a_wrong_flag_value_names_the_flag():
    assert refused(YOLOV3, "--lr=abc") == "--lr is 'abc'; it takes a number above 0"
    assert refused(YOLOV3, "--T_max", "x").startswith("--T_max is 'x'; it takes a whole number")
    assert "--lr" in refused(YOLOV3, "--lr")
    assert "'stray'" in refused(YOLOV3, "stray")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lrr", "lr"),
        ("warmup_epoch", "warmup_epochs"),
        ("learning_rate", "lr"),
        ("data-dir", "data_dir"),
        ("Tmax", "t_max"),
    ],
)
def test_an_unknown_name_gets_the_nearest_key(write, name, nearest):
    message = refused(write(f"model: yolov3\n{name}: 1\n"))
    assert "a.yaml:2" in message and repr(name) in message and repr(nearest) in message
    assert refused(YOLOV3, f"--{name}=1") == f"unknown flag --{name}; did you mean --{nearest}?"


def test_flags_are_not_abbreviated():
    assert "unknown flag --run_distr" in refused(YOLOV3, "--run_distr=1")


# YAML files


@pytest.mark.parametrize(
    ("text", "expects"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("just words", "a.yaml:1: expected lines of `key: value`"),
        ("- 1\n- 2\n", "expected lines of `key: value`"),
        ("model: yolov3\nlr: [1, 2\n", "a.yaml:3: not valid YAML"),
        ("model: yolov3\n\tlr: 1\n", "a.yaml:2: not valid YAML"),
        ("lr: 1\nmodel: yolov3\nlr: 2\n", "a.yaml:3: lr was already set at"),
        ("model: yolov3\nlr: {a: 1}\n", "a.yaml:2: lr: takes a value or a list, not nested keys"),
        ("model: yolov3\nlr: !!python/object/apply:os.system [echo]\n", "a.yaml:2: lr: the YAML tag"),
        ("model: yolov3\nlr: !mine 1\n", "a.yaml:2: lr: the YAML tag"),
        ("model: yolov3\nlr: &x 1\neta_min: *x\n", "a.yaml:3: YAML aliases"),
        ("model: yolov3\n? [a, b]\n: 1\n", "a.yaml:2: a key must be a scalar"),
        ("model: \x00\n", "not valid YAML"),
        ("model: yolov3\nlr_epochs: " + "[" * 700, "a.yaml"),
        ("model: yolov3\nlr_epochs: " + "[" * 700 + "]" * 700, "a.yaml"),
    ],
)
def test_a_broken_file_names_its_line(write, text, expects):
    assert expects in refused(write(text))


def test_a_missing_file_a_folder_and_bytes_are_refused(write, tmp_path):
    write("model: yolov3\n")
    assert refused(tmp_path / "b.yaml").endswith(f"b.yaml: no such config file; {tmp_path} has a.yaml")
    assert "is a folder, not a config file" in refused(tmp_path)
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not a UTF-8 text file" in refused(tmp_path / "c.yaml")


# Keys that contradict each other


@pytest.mark.parametrize(
    ("overrides", "expects"),
    [
        (["--testing_shape=415"], "--testing_shape contains 415 px; sizes must be multiples of 32"),
        (["--training_shape=415"], "--training_shape contains 415 px"),
        (["--training_shape=large"], "--training_shape is 'large'"),
        (["--training_shape=", "--multi_scale=[]"], "--multi_scale is empty"),
        (["--training_shape=", "--multi_scale=320,333"], "--multi_scale contains 333 px"),
        (["--class_names=a,b,a", "--num_classes=3"], "--class_names contains 'a' twice"),
        (["--class_names=a,b", "--num_classes=3"], "--num_classes is 3, but --class_names has 2 classes"),
        (["--lr_epochs=105,92"], "--lr_epochs must be strictly increasing"),
        (["--eta_min=1"], "--eta_min is 1, above lr 0.001"),
        (["--jitter_scale=2,1"], "--jitter_scale must be (minimum, maximum)"),
        (["--is_distributed=1", "--rank=2", "--group_size=2"], "--rank is 2"),
        (["--backbone_shape=8,16"], "--backbone_shape has 2 values; it takes 6"),
        (["--backbone_shape=4,8,16,32,64,127"], "--backbone_shape has an odd value"),
        (["--backbone_layers=1,2"], "--backbone_layers has 2 values; it takes 5"),
        (["--anchors=1,2,3,4"], "--anchors has 2 pairs; it takes 9"),
    ],
)
def test_contradicting_keys_are_refused(overrides, expects):
    assert expects in refused(YOLOV3, *overrides)


def test_class_count_is_not_held_against_names_where_labels_are_category_ids():
    cfg = load_config(YOLOV3, ["--label_map=coco_id_minus_1", "--num_classes=90", "--class_names=a,b"])
    assert cfg.num_classes == 90


# Old names


def _aliases():
    for model in model_table():
        for script in ("train", "eval", "test", "export", "predict", "postprocess"):
            for alias, name in flag_aliases(model, script).items():
                yield pytest.param(model, script, alias, name, id=f"{model}-{script}-{alias}")


def _another_value(k: Key, model: str) -> tuple[str, object]:
    """A text that is not the default, and its value; for the model's name its own, the only one that fits the file."""
    if k.name == "model":
        return model, model
    if k.name == "anchors":
        return ",".join(map(str, range(1, 19))), tuple((i, i + 1) for i in range(1, 19, 2))
    candidates = {
        bool: [("1", True), ("0", False)],
        int: [("64", 64), ("96", 96)],
        float: [("0.25", 0.25), ("0.5", 0.5)],
        str: [(choice, choice) for choice in k.choices or ("text",)],
        tuple[float, float]: [("0.5,1.5", (0.5, 1.5))],
    }.get(k.type, [("a,b", ("a", "b"))])
    return next((pair for pair in candidates if pair[1] != k.default), candidates[0])


@pytest.mark.parametrize(("model", "script", "alias", "name"), list(_aliases()))
def test_an_old_name_sets_its_key(write, model, script, alias, name):
    text, value = _another_value(keys_of(config_class(model))[name], model)
    path = write(f"model: {model}\n")
    assert getattr(load_config(path, [f"--{alias}={text}"], script), name) == value


_SCRIPTS = ("train", "eval", "test", "export", "predict", "postprocess")


def _names_in_files():
    for model in model_table():
        known = keys_of(config_class(model))
        for name in file_aliases(model, "train"):
            if name not in known:
                yield pytest.param(model, name, id=f"{model}-{name}")


@pytest.mark.parametrize(("model", "name"), list(_names_in_files()))
def test_an_old_name_in_a_file_says_the_same_to_every_script(write, model, name):
    found = {}
    for script in _SCRIPTS:
        targets = file_aliases(model, script)[name]
        cfg = None
        for target in targets:
            text, value = _another_value(keys_of(config_class(model))[target], model)
            path = write(f"model: {model}\n{name}: [{text}]\n" if "," in text else f"model: {model}\n{name}: {text}\n")
            cfg = load_config(path, [], script)
            assert getattr(cfg, target) == value
        found[script] = targets
    weights = {("pretrained",), ()} if name in ("pre_trained", "checkpoint_path") else set()
    assert len(set(found.values())) == 1 or set(found.values()) == weights


def test_what_files_of_the_old_zoo_call_weights(write):
    """One file for all scripts: training starts from one, what is evaluated and exported is the other."""
    for model in ("darknet53", "cspdarknet53", "refinedet"):
        path = write(f"model: {model}\npre_trained: start.ckpt\ncheckpoint_path: done.ckpt\n")
        found = {script: load_config(path, [], script).pretrained for script in _SCRIPTS}
        assert found == {script: "start.ckpt" if script == "train" else "done.ckpt" for script in _SCRIPTS}
        assert load_config(path, ["--checkpoint_path=typed.ckpt"], "eval").pretrained == "typed.ckpt"
    path = write("model: efficientdet_d0\ncheckpoint_path: w.ckpt\n")
    assert {load_config(path, [], script).pretrained for script in _SCRIPTS} == {"w.ckpt"}


@pytest.mark.parametrize("empty", ["", "None", "null", "~", "''"])
@pytest.mark.parametrize("order", [0, 1])
def test_what_is_left_empty_contradicts_nothing(write, empty, order):
    lines = ["coco_root: /data/coco", f"voc_root: {empty}"]
    path = write("model: refinedet\n" + "\n".join(lines[:: -1 if order else 1]) + "\n")
    if empty != "~":
        assert load_config(path).data_dir == "/data/coco"
    for name in ("epoch_size", "batch_size", "lr", "resize_rate", "is_distributed", "backbone_layers"):
        path = write(f"base: {ROOT}/configs/refinedet_vgg16_320.yaml\n{name}: {empty}\n")
        assert load_config(path) == load_config(f"{ROOT}/configs/refinedet_vgg16_320.yaml")
    with pytest.raises(UsageError, match="both set data_dir"):
        load_config(write("model: refinedet\ncoco_root: /data/coco\nvoc_root: /data/voc\n"))


def test_images_and_annotations_of_an_old_file_are_of_both_splits(write):
    text = "model: efficientdet_d0\nimage_dir: /i\nval_ann_file: v.txt\nanno_path: a.txt\n"
    for lines in (text, "\n".join(reversed(text.splitlines()))):
        cfg = load_config(write(lines), [], "export")
        assert (cfg.train_image_dir, cfg.val_image_dir) == ("/i", "/i")
        assert (cfg.train_ann_file, cfg.val_ann_file) == ("a.txt", "v.txt")


def test_an_old_name_that_is_a_key_keeps_its_meaning_in_files(write):
    path = write("model: yolov3\nper_batch_size: 8\nignore_threshold: 0.6\n")
    train, evaluation = load_config(path), load_config(path, ["--per_batch_size=2", "--ignore_threshold=0.1"], "eval")
    assert (train.per_batch_size, train.eval_batch_size, train.ignore_threshold) == (8, 1, 0.6)
    assert (evaluation.per_batch_size, evaluation.eval_batch_size) == (8, 2)
    assert (evaluation.ignore_threshold, evaluation.eval_ignore_threshold) == (0.6, 0.1)


def test_two_names_of_one_key_must_agree(write):
    assert load_config(YOLOV3, ["--max_epoch=9", "--epoch_size=9"]).max_epoch == 9
    message = refused(YOLOV3, "--max_epoch=9", "--epoch_size=10")
    assert message == "--max_epoch and --epoch_size both set max_epoch, to '9' and '10'"
    message = refused(write("model: yolov3\nmax_epoch: 9\nepoch_num: 10\n"))
    assert "a.yaml:2: max_epoch and " in message and "a.yaml:3: epoch_num both set max_epoch" in message
    assert load_config(write("model: yolov3\nmax_epoch: 9\n"), ["--epoch_num=10"]).max_epoch == 10


def test_the_same_flag_twice_counts_last():
    assert load_config(YOLOV3, ["--lr=0.1", "--lr=0.2"]).lr == 0.2


# The flags the old YOLOv3 scripts document, with their documented defaults: flag, text, key, value.
_TRAIN_FLAGS = [
    ("data_dir", "./dataset/coco2014", "data_dir", "./dataset/coco2014"),
    ("per_batch_size", "16", "per_batch_size", 16),
    ("resume_yolov3", "yolov3_darknet53_noquant.ckpt", "pretrained", "yolov3_darknet53_noquant.ckpt"),
    ("lr_scheduler", "exponential", "lr_scheduler", "exponential"),
    ("lr", "0.012", "lr", 0.012),
    ("lr_epochs", "92,105", "lr_epochs", (92, 105)),
    ("lr_gamma", "0.1", "lr_gamma", 0.1),
    ("eta_min", "0", "eta_min", 0.0),
    ("T_max", "135", "t_max", 135),
    ("max_epoch", "135", "max_epoch", 135),
    ("warmup_epochs", "5", "warmup_epochs", 5.0),
    ("weight_decay", "0.0005", "weight_decay", 0.0005),
    ("momentum", "0.9", "momentum", 0.9),
    ("loss_scale", "1024", "loss_scale", 1024.0),
    ("label_smooth", "0", "label_smooth", False),
    ("label_smooth_factor", "0.1", "label_smooth_factor", 0.1),
    ("log_interval", "100", "log_interval", 100),
    ("ckpt_path", "outputs/", "ckpt_path", "outputs/"),
    ("ckpt_interval", "None", "ckpt_interval", 1),
    ("is_save_on_master", "1", "is_save_on_master", True),
    ("is_distributed", "0", "is_distributed", False),
    ("rank", "0", "rank", 0),
    ("group_size", "1", "group_size", 1),
    ("need_profiler", "0", "need_profiler", False),
    ("training_shape", "", "training_shape", ""),
    ("resize_rate", "None", "resize_rate", 1),
]
_EVAL_FLAGS = [
    ("data_dir", "./dataset/coco2014", "data_dir", "./dataset/coco2014"),
    ("per_batch_size", "1", "eval_batch_size", 1),
    ("pretrained", "yolov3_quant.ckpt", "pretrained", "yolov3_quant.ckpt"),
    ("log_path", "outputs/", "log_path", "outputs/"),
    ("nms_thresh", "0.5", "nms_thresh", 0.5),
    ("annFile", "a.json", "val_ann_file", "a.json"),
    ("testing_shape", "416", "testing_shape", 416),
    ("ignore_threshold", "0.001", "eval_ignore_threshold", 0.001),
]


@pytest.mark.parametrize("joined", [True, False], ids=["equals", "words"])
@pytest.mark.parametrize(("script", "flags"), [("train", _TRAIN_FLAGS), ("eval", _EVAL_FLAGS)])
def test_the_documented_flags_of_the_old_scripts_work(script, flags, joined):
    argv = [part for flag, text, *_ in flags for part in ([f"--{flag}={text}"] if joined else [f"--{flag}", text])]
    cfg = parse_command_line(["--config", str(YOLOV3), *argv], script)
    for _, _, name, value in flags:
        assert getattr(cfg, name) == value, name


# Command line


def test_print_config_can_be_read_back(capsys, write):
    with pytest.raises(SystemExit) as ended:
        parse_command_line(
            ["--config", str(YOLOV3), "--lr=0.25", "--print_config", "--class_names=no,1,a b"] + ["--num_classes=3"],
            "train",
        )
    assert ended.value.code == 0
    cfg = load_config(write(capsys.readouterr().out))
    assert (cfg.lr, cfg.class_names) == (0.25, ("no", "1", "a b"))


def test_a_missing_config_names_what_there_is():
    with pytest.raises(UsageError, match=r"--config is missing.*yolov3\.yaml"):
        parse_command_line(["--lr=0.1"], "train")
    assert parse_command_line(["--model=yolov3"], "train") == YoloV3Config(model="yolov3")


def test_help_names_every_key_once_with_its_meaning(capsys):
    """Under `--help all`, each with its old names; `--help` explains the common ones and names the others."""
    for script in ("train", "eval", "test", "export", "predict", "postprocess"):
        texts = []
        for words in (["--help", "all"], ["--help"]):
            with pytest.raises(SystemExit) as ended:
                parse_command_line(["--config", str(YOLOV3), *words], script)
            assert ended.value.code == 0
            texts.append(" ".join(capsys.readouterr().out.split()))
        everything, common = texts
        # In some commands an old name with another meaning takes the place of a key.
        for k in (k for k in keys_of(YoloV3Config).values() if k.name not in flag_aliases("yolov3", script)):
            assert (f"--{k.name} " in everything and k.help in everything) == k.serves(script), k.name
            if k.serves(script):
                assert k.name in common, k.name
                assert (f"--{k.name} " in common) != k.is_advanced(script), k.name
        assert len(common.split("advanced flags")) == 2


@pytest.mark.parametrize(
    ("script", "flag", "owner"),
    [
        ("train", "--file_format=ONNX", "msdet export"),
        ("eval", "--lr=0.1", "msdet train"),
        ("export", "--data_dir=x", "msdet train, eval"),
        ("predict", "--run_eval", "msdet train"),
        ("postprocess", "--source=x", "msdet predict"),
    ],
)
def test_a_flag_of_another_command_is_refused(script, flag, owner):
    with pytest.raises(UsageError) as raised:
        parse_command_line(["--config", str(YOLOV3), flag], script)
    assert owner in str(raised.value) and flag.partition("=")[0] in str(raised.value)


def test_a_file_serves_every_command(write):
    path = write("model: yolov3\nlr: 0.5\nfile_format: ONNX\nsource: a.jpg\ndata_dir: d\n")
    for script in ("train", "eval", "test", "export", "predict", "postprocess"):
        cfg = parse_command_line(["--config", str(path)], script)
        assert (cfg.lr, cfg.file_format, cfg.source, cfg.data_dir) == (0.5, "ONNX", "a.jpg", "d")


def test_a_recipe_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("yolov4", "yolov4.yaml", "configs/yolov4.yaml", "configs/yolov4"):
        assert load_config(name).model == "yolov4"
    (tmp_path / "yolov4.yaml").write_text("model: yolov3\n")
    assert load_config("yolov4.yaml").model == "yolov3"
    with pytest.raises(UsageError, match="elsewhere/yolov4.yaml"):
        load_config("elsewhere/yolov4.yaml")


@pytest.mark.parametrize(
    ("flag", "answer"),
    [("--conf=1", "--eval_ignore_threshold"), ("--iou=1", "--nms_thresh"), ("--optimizer=adam", "SGD"),
     ("--patience=3", "no early stopping")],
)  # fmt: skip
def test_flags_that_people_know_from_elsewhere_are_answered(flag, answer):
    assert answer in refused(YOLOV3, flag)


def test_an_unknown_word_that_is_like_none_gets_no_advice():
    assert refused(YOLOV3, "--zzz=1").endswith("unknown flag --zzz")


def test_the_model_of_a_help_may_be_open(capsys):
    with pytest.raises(SystemExit):
        parse_command_line(["--help"], "eval")
    assert "--backbone_shape" not in capsys.readouterr().out


@pytest.mark.parametrize("model", model_table())
def test_every_model_refuses_what_all_models_refuse(write, model):
    """A model's own checks come on top of the common ones, and of those of the keys that it shares with others."""
    path = write(f"model: {model}\n")
    assert "strictly increasing" in refused(path, "--lr_epochs=5,3")
    keys = keys_of(config_class(model))
    if "per_channel" in keys:
        assert "no runtime supports" in refused(path, "--per_channel=1,1")
    if "padding" in keys:
        assert "halve the channels" in refused(path, "--backbone_shape=4,8,16,32,64,127")


def _unused():
    for model in model_table():
        for name in config_class(model).UNUSED:
            yield pytest.param(model, name, id=f"{model}-{name}")


@pytest.mark.parametrize(("model", "name"), list(_unused()))
def test_a_key_without_effect_is_refused(write, model, name):
    # The factors of saturation and value begin at 1.
    text = "2" if name in ("saturation", "value") else _another_value(keys_of(config_class(model))[name], model)[0]
    plain = write(f"model: {model}\n", "plain.yaml")
    with pytest.raises(UsageError, match=rf"^--{name} has no effect with \w"):
        load_config(plain, [f"--{name}={text}"])
    with pytest.raises(UsageError, match=rf"c\.yaml:2: {name} has no effect with \w"):
        load_config(write(f"model: {model}\n{name}: {text}\n", "c.yaml"))
    default = load_config(plain)
    assert name not in default.to_dict()
    old = {**default.to_dict(), name: getattr(default, name)}
    path = write(yaml.safe_dump({name: list(v) if isinstance(v, tuple) else v for name, v in old.items()}))
    assert load_config(path) == default, "as older versions saved it"
    assert diff_configs(old, default) == {}


def test_a_key_without_effect_is_neither_listed_nor_proposed(capsys, write):
    path = write("model: efficientdet_d0\n")
    with pytest.raises(SystemExit):
        parse_command_line(["--config", str(path), "--help"], "train")
    text = capsys.readouterr().out
    assert "--jitter " not in text and "--jitter_scale " in text
    with pytest.raises(UsageError, match=r"did you mean --jitter_scale"):
        load_config(path, ["--jiter=1"])


@pytest.mark.parametrize("model", model_table())
def test_no_recipe_reads_a_key_without_effect(model):
    package = ROOT / "src" / model_table()[model].replace(".", "/")
    assert (package / "recipe.py").is_file()
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    for name in config_class(model).UNUSED:
        assert not re.search(rf"cfg\.{name}\b", code), name


def test_help_shows_the_values_of_the_file(write, capsys):
    """Also of its base, and under an old name."""
    path = write(f"base: {ROOT}/configs/yolov4.yaml\nbatch_size: 24\nclass_names: [a, b]\nnum_classes: 2\n")
    with pytest.raises(SystemExit):
        parse_command_line(["--config", str(path), "--help"], "train")
    shown = " ".join(capsys.readouterr().out.split())
    assert "(24)" in shown and "([a,b])" in shown and "(0.012)" in shown
    with pytest.raises(SystemExit):
        parse_command_line(["--config", str(path), "--help", "all"], "export")
    assert "([a,b])" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse_command_line(["--model", "yolov4", "--help"], "train")
    assert "(0.012)" not in " ".join(capsys.readouterr().out.split())


def test_help_is_quick_and_imports_nothing_heavy():
    program = (
        "import sys, time; start = time.perf_counter()\n"
        "from msdet.config import parse_command_line\n"
        "try:\n    parse_command_line(['--config', 'configs/yolov3.yaml', '--help'], 'train')\n"
        "except SystemExit: pass\n"
        "heavy = {'mindspore', 'cv2', 'numpy', 'numba', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "print('TOOK', time.perf_counter() - start, heavy, file=sys.stderr)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "set()" in done.stderr
    # 0.2 s on an idle core; the limit leaves room for a loaded one.
    assert time.perf_counter() - start < 5


# The object


def test_saved_values_are_read_back_equal(tmp_path):
    cfg = load_config(
        YOLOV3, ["--lr=3e-7", "--class_names=a b,no,null", "--num_classes=3", "--pretrained=é.ckpt", "--mean=0,0,0"]
    )
    cfg.save(tmp_path / "new" / "config.yaml")
    assert load_config(tmp_path / "new" / "config.yaml") == cfg
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["config.yaml"]
    assert yaml.safe_load((tmp_path / "new" / "config.yaml").read_text(encoding="utf-8")) == cfg.to_dict()


@settings(max_examples=30)
@given(
    lr=st.floats(1e-12, 1e6),
    epochs=st.lists(st.integers(0, 10**9), unique=True).map(sorted),
    names=st.lists(
        st.text(
            st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"),
            min_size=1,
        ),
        unique=True,
    ),
)
def test_any_value_survives_yaml(tmp_path_factory, lr, epochs, names):
    cfg = YoloV3Config(model="yolov3", lr=lr, lr_epochs=tuple(epochs), class_names=tuple(names))
    path = tmp_path_factory.mktemp("yaml") / "c.yaml"
    cfg.save(path)
    assert load_config(path) == cfg


def test_replace_checks_like_a_file():
    cfg = load_config(YOLOV3)
    changed = cfg.replace(lr="0.5", multi_scale=[320], training_shape=320)
    assert (changed.lr, changed.multi_scale, changed.training_shape) == (0.5, ((320, 320),), "320")
    assert cfg.lr == 0.001
    for wrong in ({"lr": "x"}, {"lr": True}, {"max_epoch": 0}, {"nothing": 1}, {"testing_shape": 33}):
        with pytest.raises(UsageError):
            cfg.replace(**wrong)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.lr = 1.0


def test_sizes():
    cfg = load_config(YOLOV3, ["--training_shape=352", "--testing_shape=608"])
    assert cfg.training_sizes == ((352, 352),)
    assert cfg.testing_size == (608, 608)
    assert cfg.replace(training_shape="").training_sizes == tuple((n, n) for n in range(320, 609, 32))


def test_only_keys_that_change_the_result_are_compared(tmp_path):
    cfg = load_config(YOLOV3)
    assert diff_configs(cfg, cfg.replace(log_interval=1, data_dir="x", device_target="CPU", ckpt_path="y")) == {}
    assert diff_configs(cfg, cfg.replace(lr=0.5, seed=2)) == {"lr": (0.001, 0.5), "seed": (1, 2)}
    old = cfg.to_dict()
    del old["seed"]
    assert diff_configs(old, cfg) == {}, "an earlier version did what the default does"
    assert diff_configs(old, cfg.replace(seed=2)) == {"seed": (1, 2)}
    assert diff_configs({**old, "gone": 3}, cfg) == {"gone": (3, None)}
    training = cfg.to_dict(training_only=True)
    assert "lr" in training and "log_interval" not in training


def test_classes_follow_the_annotation_file():
    cfg = load_config(YOLOV3, ["--num_classes=0"])
    filled = resolve_classes(cfg, ["cat", "dog"], "a.json")
    assert (filled.class_names, filled.num_classes) == (("cat", "dog"), 2)
    assert resolve_classes(filled, ["dog"], "val.json").class_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"a\.json: category 'cow'"):
        resolve_classes(filled, ["cow"], "a.json")
    with pytest.raises(UserError, match=r"yolov3\.yaml:\d+: num_classes is 80, but a\.json has 2 categories"):
        resolve_classes(load_config(YOLOV3), ["cat", "dog"], "a.json")
    with pytest.raises(UsageError, match="set num_classes too"):
        resolve_classes(cfg.replace(label_map="coco_id_minus_1"), ["cat"], "a.json")


def test_keys_are_documented_and_consistent():
    for model in model_table():
        for k in keys_of(config_class(model)).values():
            assert k.help and "\n" not in k.help and not k.help.endswith("."), k.name
            assert k.convert(k.default) == k.default, k.name
            assert k.path <= (not k.affects_training), f"{k.name}: a folder may move"


def test_choices_agree_with_the_data_pipeline():
    from msdet.data.formats.coco.layouts import LAYOUTS
    from msdet.data.images.decode import MAX_IMAGE_PIXELS
    from msdet.data.transforms.resize import INTERPOLATION_NAMES, RESIZE_MODES

    keys = keys_of(Config)
    assert set(keys["resize"].choices) == set(RESIZE_MODES)
    assert set(keys["interpolation"].choices) == set(INTERPOLATION_NAMES)
    assert set(keys["layout"].choices) == {"auto", *LAYOUTS}
    assert keys["max_image_pixels"].default == MAX_IMAGE_PIXELS


@dataclasses.dataclass(frozen=True)
class Optional:
    """Test"""

    limit: float | None = key(None, "a limit", minimum=0)


def test_optional_keys_take_none():
    limit = keys_of(Optional)["limit"]
    assert [limit.convert(raw) for raw in ("None", "", None, "2", 2)] == [None, None, None, 2.0, 2.0]
    with pytest.raises(ValueError, match="a number or None, at least 0"):
        limit.convert("-1")
