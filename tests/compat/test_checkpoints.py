"""Checkpoints of the old model zoo: recognised wherever weights are given, and answered with what to do."""

import runpy
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from mindspore import nn

import eval as evaluation
import export
import predict
import train
from msdet.checkpoints.weights_file import load_weights, save_tensors, tensors_of
from msdet.compat.checkpoints import find_old_layout, reject_old_checkpoint
from msdet.config import load_config
from msdet.errors import UserError
from msdet.importers.command import main
from msdet.models.recipe import get_recipe
from msdet.models.yolov3_quant.weight_names import SOURCES
from msdet.training.initial_weights import load_backbone
from tests.in_process import run

# `import test` would be Python's own package.
TEST_DEV = runpy.run_path(str(Path(__file__).resolve().parents[2] / "test.py"))["main"]
TINY_SHAPE = ["--num_classes", "2", "--backbone_shape", "4,4,4,8,8,16", "--backbone_layers", "1,1,1,1,1"]
YOLO = {"feature_map.backbone.conv0.0.weight": (4, 3, 3, 3), "feature_map.backblock0.conv6.weight": (255, 8, 1, 1)}
DARKNET = {"conv0.0.weight": (4, 3, 3, 3), "layer5.0.conv2.0.weight": (4, 4, 3, 3), "fc.weight": (1000, 8)}
CSP = {"backbone.conv0.0.weight": (4, 3, 3, 3), "backbone.conv27.0.weight": (4, 4, 1, 1), "head.fc.weight": (1000, 8)}
HEAD_OF_D0 = "classifier.header.pointwise_conv.weight"
EFFICIENTDET = {"backbone_net.model.conv_stem.weight": (4, 3, 3, 3), HEAD_OF_D0: (810, 8, 1, 1)}
QUANTIZED = {**YOLO, "feature_map.backbone.conv0.conv.fake_quant_weight.minq": (4,)}
REFINEDET = {"arm.multi_loc_layers.0.weight": (12, 8, 1, 1), "tcb.tcb0.0.weight": (4, 4, 3, 3)}


def tensors(shapes, prefix=""):
    return {prefix + name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def without(shapes, name):
    return {key: shape for key, shape in shapes.items() if key != name}


@pytest.mark.parametrize("prefix", ["", "network.", "yolo_network.", "moments."])
@pytest.mark.parametrize(
    ("shapes", "title", "flags"),
    [
        (YOLO, "YOLOv3", "--config configs/yolov3.yaml"),
        ({**YOLO, "feature_map.backblock3.conv0.0.weight": (4, 4, 1, 1)}, "YOLOv4", "--config configs/yolov4.yaml"),
        ({**YOLO, "feature_map.backblock0.conv6.weight": (21, 8, 1, 1)}, "YOLOv3",
         "--config configs/yolov3.yaml --num_classes 2"),
        (without(YOLO, "feature_map.backblock0.conv6.weight"), "YOLOv3",
         "--config configs/yolov3.yaml --partial backbone"),
        ({"feature_map.backbone.conv27.0.weight": (4, 4, 1, 1)}, "YOLOv4",
         "--config configs/yolov4.yaml --partial backbone"),
        (EFFICIENTDET, "EfficientDet-D0", "--config configs/efficientdet_d0.yaml"),
        ({**EFFICIENTDET, HEAD_OF_D0: (27, 8, 1, 1)}, "EfficientDet-D0",
         "--config configs/efficientdet_d0.yaml --num_classes 3"),
        (DARKNET, "DarkNet53", "--config configs/darknet53_imagenet.yaml"),
        (without(DARKNET, "fc.weight"), "DarkNet53", "--config configs/darknet53_imagenet.yaml --partial backbone"),
        (CSP, "CSPDarkNet53", "--config configs/cspdarknet53_imagenet.yaml"),
    ],
)  # fmt: skip
def test_the_command_that_imports_a_file(tmp_path, shapes, title, flags, prefix):
    source = tmp_path / "of old.ckpt"
    with pytest.raises(UserError) as caught:
        reject_old_checkpoint(source, tensors(shapes, prefix))
    sentence, command = str(caught.value).split("\n")
    assert sentence.startswith(f"{source} is a checkpoint of the old model zoo, of its {title}. Import it")
    output = tmp_path / "of old_imported.ckpt"
    wanted = ["python", "-m", "msdet", "import", *flags.split(), "--source", str(source), "--output", str(output)]
    assert shlex.split(command) == wanted


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        ("yolov3", TINY_SHAPE),
        ("yolov3_quant", TINY_SHAPE),
        ("yolov4", TINY_SHAPE),
        ("cspdarknet53_imagenet", TINY_SHAPE),
        ("darknet53_imagenet", TINY_SHAPE),
        ("refinedet_vgg16_320", ["--num_classes", "2", "--backbone_shape", "8,8,8,8,8,16", "--pyramid_channels", "8"]),
        ("efficientdet_d0", ["--backbone_shape", "8,4,4,8,8,8,8,16", "--pyramid_channels", "8"]),
    ],
)
def test_own_checkpoints_are_none_of_the_old_zoo(tmp_path, config, flags):
    """Nor are they read by the importer, which says where they belong."""
    own = tensors_of(get_recipe(load_config(f"configs/{config}.yaml", flags)).build_network())
    assert find_old_layout(own) is None


@pytest.mark.parametrize(
    ("script", "config", "flags"),
    [
        (train.main, "yolov3", ["--data_dir=absent", "--ckpt_path=runs", "--pretrained"]),
        (train.main, "yolov3_quant", ["--data_dir=absent", "--ckpt_path=runs", "--resume_yolov3"]),
        (evaluation.main, "yolov3", ["--data_dir=absent", "--log_path=runs", "--pretrained"]),
        (evaluation.main, "darknet53_imagenet", ["--data_dir=absent", "--log_path=runs", "--pretrained"]),
        (TEST_DEV, "yolov4", ["--data_dir=absent", "--log_path=runs", "--pretrained"]),
        (export.main, "efficientdet_d0", ["--ckpt_file"]),
        (predict.main, "refinedet_vgg16_320", ["--source=pictures", "--output=out", "--pretrained"]),
    ],
)
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (YOLO, "msdet import --config configs/yolov3.yaml"),
        (QUANTIZED, "FLOAT.ckpt"),
        (REFINEDET, "another"),
    ],
)
def test_each_command_recognises_them(tmp_path, monkeypatch, capsys, script, config, flags, shapes, message):
    config = Path(f"configs/{config}.yaml").absolute()
    monkeypatch.chdir(tmp_path)
    save_tensors(Path("old.ckpt"), tensors(shapes))
    Path("pictures").mkdir()
    cv2.imwrite("pictures/a.png", np.zeros((32, 32, 3), np.uint8))
    assert run(script, "--config", config, *flags, "old.ckpt") == 1
    error = capsys.readouterr().err
    assert "error: old.ckpt is a checkpoint of the old model zoo" in error and message in error


def test_a_backbone_of_the_old_zoo(tmp_path):
    save_tensors(tmp_path / "old.ckpt", tensors(CSP))
    with pytest.raises(UserError, match="of its CSPDarkNet53. Import it"):
        load_backbone(nn.Cell(), tmp_path / "old.ckpt")


def zoo_file(tmp_path):
    """A narrow YOLOv3 as the old zoo saved it, and its values by their names here."""
    network = get_recipe(load_config("configs/yolov3.yaml", TINY_SHAPE)).build_network()
    own = tensors_of(network)
    save_tensors(tmp_path / "old.ckpt", {name: own[here] for name, here in SOURCES[1].names(network).items()})
    return own


def import_old(tmp_path, config, *flags):
    files = ["--source", tmp_path / "old.ckpt", "--output", tmp_path / "new.ckpt"]
    return run(main, "--config", f"configs/{config}.yaml", *files, *flags)


def test_a_configuration_for_int8_imports_the_float_network(tmp_path, capsys):
    own = zoo_file(tmp_path)
    assert import_old(tmp_path, "yolov3_quant", *TINY_SHAPE) == 0
    assert (
        "It holds the float network: train for int8 with --config configs/yolov3_quant.yaml" in capsys.readouterr().out
    )
    found, card = load_weights(tmp_path / "new.ckpt")
    assert "quantization" not in card and found.keys() == own.keys()
    for name, value in own.items():
        np.testing.assert_array_equal(found[name], value)


def test_what_was_imported_already_is_not_imported_again(tmp_path, capsys):
    for config in ("yolov3", "yolov3_quant"):
        network = get_recipe(load_config(f"configs/{config}.yaml", TINY_SHAPE)).build_network()
        save_tensors(tmp_path / "old.ckpt", tensors_of(network))
        assert import_old(tmp_path, config, *TINY_SHAPE) == 1
        assert "already a checkpoint of this program and needs no import: use --pretrained" in capsys.readouterr().err
    assert import_old(tmp_path, "refinedet_vgg16_320") == 1
    assert "refinedet imports torch files. Checkpoints of this program need no import" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config", ["yolov3", "yolov3_quant", "yolov4", "refinedet_resnet101_320", "darknet53_imagenet"]
)
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (EFFICIENTDET, "of its EfficientDet-D0. Import it"),
        (REFINEDET, "of its RefineDet. It cannot be used: it is another network"),
        (QUANTIZED, "mindspore.compression.quant, which was removed from MindSpore. It cannot be used"),
        ({"some.other.weight": (3,)}, ""),
    ],
)
def test_any_old_file_with_any_configuration(tmp_path, capsys, config, shapes, message):
    save_tensors(tmp_path / "old.ckpt", tensors(shapes))
    flags = [] if config.startswith("refinedet") else TINY_SHAPE
    assert import_old(tmp_path, config, *flags) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new.ckpt").exists()


def test_the_backbone_with_the_prefixes_of_a_classifier(tmp_path):
    cfg = load_config("configs/darknet53_imagenet.yaml", TINY_SHAPE)
    network = get_recipe(cfg).build_network()
    own = tensors_of(network)
    names = get_recipe(cfg).weight_sources()[1].names(network)
    old = {
        f"network.{'head' if here.startswith('fc') else 'backbone'}.{name}": own[here] for name, here in names.items()
    }
    save_tensors(tmp_path / "old.ckpt", old)
    assert import_old(tmp_path, "darknet53_imagenet", *TINY_SHAPE) == 0
    np.testing.assert_array_equal(load_weights(tmp_path / "new.ckpt")[0]["fc.weight"], own["fc.weight"])
