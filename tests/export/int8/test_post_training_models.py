"""Every model's checkpoint becomes an int8 ONNX file by calibration."""

import json

import cv2
import pytest

import export as command
from msdet.checkpoints.weights_file import save_weights, tensors_of
from msdet.config import load_config
from msdet.errors import run_command
from msdet.export.int8.graph import count_operators
from msdet.export.sample_images import sample_images
from msdet.export.sidecar import sidecar_path
from msdet.models.recipe import get_recipe

YOLO = ["--backbone_shape=4,4,8,8,8,16", "--backbone_layers=1,1,1,1,1"]
EFFICIENTDET = [
    "--backbone_shape=8,4,4,8,8,8,8,16", "--backbone_layers=1,1,1,1,1,2,1", "--pyramid_channels=8",
    "--pyramid_repeats=1", "--head_repeats=1",
]  # fmt: skip
REFINEDET = ["--pyramid_channels=8"]
# Configuration, flags of a tiny network, side of the input, and convolutions: those in int8 and all. What predicts
# stays float: three heads, two on each of EfficientDet's levels after a shared tower, four on each of RefineDet's four
# levels; of a classifier the last before the mean.
MODELS = {
    "yolov4": ("yolov4", YOLO, 64, 71, 74),
    "efficientdet_d0": ("efficientdet_d0", EFFICIENTDET, 128, 92, 102),
    "refinedet_vgg16": (
        "refinedet_vgg16_320", ["--backbone_shape=8,8,8,8,8,16", "--backbone_layers=1,1,1,1,1", *REFINEDET], 64, 24, 40,
    ),
    "refinedet_resnet101": (
        "refinedet_resnet101_320", ["--backbone_shape=8,8,8,8,8", "--backbone_layers=1,1,1,1", *REFINEDET], 64, 36, 52,
    ),
    "darknet53": ("darknet53_imagenet", YOLO, 64, 15, 16),
    "cspdarknet53": ("cspdarknet53_imagenet", YOLO, 64, 35, 36),
}  # fmt: skip


@pytest.mark.parametrize(
    "model", [name if name == "darknet53" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_calibration_of_every_model(tmp_path, model):
    config, flags, size, integer, convolutions = MODELS[model]
    path = f"configs/{config}.yaml"
    # With classes of one's own, and not COCO's 90 outputs.
    dense = ["--label_map=dense"] if config == "efficientdet_d0" else []
    recipe = get_recipe(
        load_config(path, [*flags, *dense, f"--testing_shape={size}", "--num_classes=2", "--class_names=cat,dog"])
    )
    save_weights(tmp_path / "w.ckpt", tensors_of(recipe.build_network()), recipe.card([]))
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(sample_images(3, (size, size))[0]):
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), image[:, :, ::-1])
    flags = [
        *dense, f"--config={path}", f"--ckpt_file={tmp_path}/w.ckpt", f"--testing_shape={size}", "--num_classes=0",
        "--file_format=ONNX", f"--file_name={tmp_path}/n", "--quantize=ptq", f"--calibration={tmp_path}/pictures",
    ]  # fmt: skip
    assert run_command(command.main, flags) == 0
    assert count_operators(tmp_path / "n.onnx")["QLinearConv"] == integer
    verified = json.loads(sidecar_path(tmp_path / "n.onnx").read_text())["verified"]
    assert verified["int8"] == {"kind": "ptq", "convolutions": convolutions, "int8_convolutions": integer}
    assert max(verified["outputs"]) < 0.3
