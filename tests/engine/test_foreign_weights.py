"""Checkpoints of the old zoo given as they are: each command says what they are, and what to do with them."""

import numpy as np
import pytest

import export
import predict
from src.config import load_config
from src.engine.weights_file import load_tensors, load_weights, save_tensors, tensors_of
from src.errors import UserError, run_command
from src.recipe import get_recipe
from src.weights.__main__ import main as import_weights

pytestmark = pytest.mark.usefixtures("at_root")
YOLO = ["--backbone_shape=4,4,8,8,8,16", "--backbone_layers=1,1,1,1,1", "--num_classes=2", "--class_names=a,b"]
D0 = [
    "--backbone_shape=8,8,8,8,16,16,16,16", "--backbone_layers=1,1,1,1,1,1,1", "--pyramid_channels=8",
    "--pyramid_repeats=1", "--head_repeats=1", "--num_classes=2", "--class_names=a,b",
]  # fmt: skip
CONFIGS = {
    "yolov3": YOLO, "yolov3_quant": YOLO, "yolov4": YOLO, "efficientdet_d0": D0, "darknet53_imagenet": YOLO,
    "cspdarknet53_imagenet": YOLO,
}  # fmt: skip


def old_file(name, path):
    """A file with the old names of a float network's tensors, and what training left beside them."""
    recipe = get_recipe(load_config(f"configs/{name}.yaml", [*CONFIGS[name], "--quantization_aware=0"]
                                    if name == "yolov3_quant" else CONFIGS[name]))  # fmt: skip
    network = recipe.build_network()
    own = tensors_of(network)
    layout = next(s for s in recipe.weight_sources() if getattr(s, "container", "") == "mindspore")
    content = {old: own[new] for old, new in layout.names(network).items()}
    save_tensors(path, {**content, "moments.x": np.zeros(3, np.float32)})
    return path


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("command", ["train", "eval", "export", "predict"])
def test_the_command_that_imports_it_is_named_and_works(name, command, tmp_path, capsys):
    source = old_file(name, tmp_path / "old.ckpt")
    own = ["--config", f"configs/{name}.yaml", *CONFIGS[name]]
    if command == "train":
        from src.engine.starts import start_from

        recipe = get_recipe(load_config(own[1], [*CONFIGS[name], f"--pretrained={source}"]))
        with pytest.raises(UserError) as caught:
            start_from(recipe.build_network(), recipe, load_tensors(source), {})
        message = str(caught.value)
    elif command == "eval":
        recipe = get_recipe(load_config(own[1], CONFIGS[name]))
        from src.engine.foreign_weights import fill_from_file

        with pytest.raises(UserError) as caught:
            fill_from_file(recipe.build_network(), recipe, load_tensors(source), source, "")
        message = str(caught.value)
    else:
        main = {"export": export.main, "predict": predict.main}[command]
        extra = ["--source", str(tmp_path / "p.png")] if command == "predict" else ["--file_name", str(tmp_path / "n")]
        if command == "predict":
            import cv2

            cv2.imwrite(str(tmp_path / "p.png"), np.zeros((9, 9, 3), np.uint8))
        assert run_command(main, [*own, "--pretrained", str(source), *extra]) == 1
        message = capsys.readouterr().err
    asked = f"python -m src.weights --config configs/{name}.yaml --source {source} --output old_imported.ckpt"
    assert "old model zoo" in message and asked in message
    typed = [*own, "--source", str(source), "--output", str(tmp_path / "old_imported.ckpt"), "--quiet"]
    if command == "train":
        assert run_command(import_weights, typed) == 0
        _, card = load_weights(tmp_path / "old_imported.ckpt")
        assert card["source"]["layout"] and card.get("quantization") is None


def test_weights_of_the_int8_trainings_of_mindspore_1_are_refused(tmp_path, capsys):
    old = tmp_path / "quant.ckpt"
    names = ("feature_map.backbone.conv0.conv.weight", "feature_map.backbone.conv0.conv.fake_quant_weight.minq")
    save_tensors(old, {name: np.zeros(3, np.float32) for name in names})
    flags = ["--config", "configs/yolov3_quant.yaml", *YOLO]
    assert run_command(import_weights, [*flags, "--source", str(old), "--output", str(tmp_path / "o.ckpt")]) == 1
    assert "mindspore.compression.quant" in capsys.readouterr().err
    assert run_command(export.main, [*flags, "--ckpt_file", str(old)]) == 1
    assert "mindspore.compression.quant" in capsys.readouterr().err


def test_the_old_refinedet_is_refused_and_others_are_what_they_are(tmp_path, capsys):
    other = tmp_path / "old.ckpt"
    save_tensors(other, {"arm.loc.0.weight": np.zeros(3, np.float32)})
    small = ["--backbone_shape=8,8,8,16,16,16", "--backbone_layers=1,1,1,1,1", "--num_classes=2", "--class_names=a,b"]
    flags = ["--config", "configs/refinedet_vgg16_320.yaml", *small, "--ckpt_file", str(other)]
    assert run_command(export.main, flags) == 1
    assert "the old model zoo's RefineDet is another network" in capsys.readouterr().err
    assert run_command(export.main, ["--config", "configs/yolov4.yaml", *YOLO, "--ckpt_file", str(other)]) == 1
    assert "Is this a checkpoint of another model" in capsys.readouterr().err
