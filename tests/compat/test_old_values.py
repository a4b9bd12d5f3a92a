"""Old keys whose values mean something else: what they set, in files and as flags, and what is refused."""

import pytest

from msdet.compat.old_values import old_value_names, rewrite_value, saved_values
from msdet.config import diff_configs, load_config
from msdet.config.key import keys_of
from msdet.config.model_table import config_class, model_table
from msdet.errors import UsageError


@pytest.mark.parametrize(
    ("model", "name", "raw", "expected"),
    [
        ("refinedet", "class_num", "81", {"num_classes": "80"}),
        ("refinedet", "class_num", "0", {}),
        ("refinedet", "image_shape", ["320", "320"], {"testing_shape": "320", "training_shape": "320"}),
        ("refinedet", "image_shape", "[512, 512]", {"testing_shape": "512", "training_shape": "512"}),
        ("refinedet", "image_shape", [], {}),
        ("refinedet", "image_shape", None, {}),
        ("darknet53", "image_size", "224,224", {"testing_shape": "224", "training_shape": "224"}),
        ("cspdarknet53", "parameter_server", "False", {}),
        ("efficientdet_d0", "compound_coef", "0", {}),
        ("yolov3", "image_shape", "shapes.npy", None),
        ("darknet53", "class_num", "1000", None),
    ],
)
def test_what_an_old_key_sets(model, name, raw, expected):
    assert rewrite_value(model, name, raw) == expected


@pytest.mark.parametrize(
    ("model", "name", "raw", "message"),
    [
        ("refinedet", "class_num", "1", "counts the background"),
        ("refinedet", "class_num", "many", "whole number"),
        ("refinedet", "image_shape", "320,512", "square"),
        ("darknet53", "image_size", "wide,high", "height and width"),
        ("darknet53", "parameter_server", "True", "is_distributed"),
        ("efficientdet_d0", "compound_coef", "1", "EfficientDet-D0"),
    ],
)
def test_what_is_refused(model, name, raw, message):
    with pytest.raises(ValueError, match=message):
        rewrite_value(model, name, raw)


@pytest.mark.parametrize("model", model_table())
def test_old_names_are_no_keys(model):
    assert keys_of(config_class(model)).keys().isdisjoint(old_value_names(model))


def test_a_flag_overrides_the_old_key_of_a_file(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("model: refinedet\nclass_num: 21\nimage_shape: [512, 512]\n")
    cfg = load_config(path)
    assert (cfg.num_classes, cfg.testing_shape, cfg.training_shape) == (20, 512, "512")
    assert cfg.where("num_classes") == f"{path}:2: num_classes"
    cfg = load_config(path, ["--class_num=5", "--testing_shape=320"])
    assert (cfg.num_classes, cfg.testing_shape) == (4, 320)


def test_a_wrong_value_is_named_with_its_line(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("model: refinedet\nclass_num: 1\n")
    with pytest.raises(UsageError, match=r"old.yaml:2: class_num is '1'; it counts the background"):
        load_config(path)


def test_a_run_of_an_earlier_version_can_be_resumed():
    """Its saved configuration has keys that are keys no longer."""
    cfg = load_config("configs/refinedet_vgg16_320.yaml")
    saved = cfg.to_dict(training_only=True)
    del saved["pretrained_epochs"]
    earlier = {**saved, "class_num": 0, "image_shape": [], "pre_trained_epoch_size": 0}
    assert saved_values(earlier) == {**saved, "pretrained_epochs": 0}
    assert diff_configs(earlier, cfg) == {}
    assert diff_configs({**earlier, "pre_trained_epoch_size": 5}, cfg) == {"pretrained_epochs": (5, 0)}
