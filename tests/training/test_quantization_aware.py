"""Quantization-aware training by its commands: ranges, resuming, evaluation, schedule, invalid keys."""

import json
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import eval as evaluation
import train as training
from msdet.checkpoints.state import load_snapshot
from msdet.checkpoints.weights_file import load_weights, save_weights, tensors_of
from msdet.config import load_config
from msdet.data.synthetic.render import SHAPE_NAMES
from msdet.data.synthetic.shapes import render_shapes
from msdet.errors import run_command
from msdet.models.recipe import get_recipe
from msdet.quantization.fake_quant import FakeQuant
from msdet.quantization.quantize import FakeQuantConv
from msdet.training.quantization_aware import QuantSchedule, has_ranges

pytestmark = pytest.mark.usefixtures("at_root")
ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--config", "configs/yolov3_shapes.yaml", "--testing_shape", "64", "--backbone_shape", "4,4,8,8,8,16",
    "--backbone_layers", "1,1,1,1,1", "--per_batch_size", "2", "--num_parallel_workers", "0", "--progress", "off",
    # Compiling would take ten times as long as these four steps.
    "--mode", "pynative",
]  # fmt: skip
TRAINING = [
    "--training_shape", "64", "--warmup_epochs", "0", "--log_interval", "1", "--lr", "0.001", "--ckpt_interval", "1",
    "--run_eval", "0",
]  # fmt: skip
QUANT = ["--quantization_aware", "1", "--observer_decay", "0.9", "--calibration_batches", "2"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return render_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=2, size=64)


def train(dataset, out, *args):
    return run_command(
        training.main, [str(a) for a in (*TINY, *TRAINING, "--data_dir", dataset, "--ckpt_path", out, *args)]
    )


def evaluate(dataset, out, *args):
    return run_command(evaluation.main, [str(a) for a in (*TINY, "--data_dir", dataset, "--log_path", out, *args)])


@pytest.fixture(scope="module")
def runs(dataset, tmp_path_factory):
    """A float network with random weights, and two epochs of quantization-aware training from it."""
    out = tmp_path_factory.mktemp("out")
    recipe = get_recipe(load_config(TINY[1], [*TINY[2:], f"--class_names={','.join(SHAPE_NAMES)}"]))
    recipe = get_recipe(recipe.cfg.replace(num_classes=len(SHAPE_NAMES)))
    save_weights(out / "float.ckpt", tensors_of(recipe.build_network()), recipe.card([1, 2, 3, 4, 5, 6, 7]))
    flags = ("--run_name", "quant", "--max_epoch", 2, "--pretrained", out / "float.ckpt", *QUANT)
    assert train(dataset, out, *flags) == 0
    yield out
    ms.set_context(mode=ms.GRAPH_MODE)


def test_the_checkpoint_contains_ranges_and_its_card_the_quantization(runs):
    weights, card = load_weights(runs / "quant" / "ckpt_0" / "yolov3-2_4.ckpt")
    assert has_ranges(weights)
    assert not has_ranges(load_weights(runs / "float.ckpt")[0])
    assert card["quantization"] == {
        "quantization_aware": True, "quant_bits": [8, 8], "per_channel": [True, False], "symmetric": [True, False],
    }  # fmt: skip
    low = {name: value.item() for name, value in weights.items() if name.endswith(".low")}
    assert all(-6 <= value <= 0 for value in low.values())
    # Black is -2.12 after ImageNet's mean and standard deviation, and the range lies within that of images.
    assert -2.13 < low["backbone.stem.conv.inputs.observer.low"] < -0.5
    text = (runs / "quant" / "log.txt").read_text()
    assert "calibrated the activation ranges on 2 batches of 2 images" in text


def test_resume_keeps_the_ranges_bit_for_bit(runs, dataset, tmp_path):
    """Two epochs = one epoch and a resumed second one."""
    whole = runs / "quant" / "ckpt_0"
    part = tmp_path / "part" / "ckpt_0"
    part.mkdir(parents=True)
    for path in whole.glob("yolov3-1_2*"):
        (part / path.name).write_bytes(path.read_bytes())
    weights = runs / "float.ckpt"
    flags = ("--run_name", "part", "--max_epoch", 2, "--resume", "auto", "--pretrained", weights, *QUANT)
    assert train(dataset, tmp_path, *flags) == 0
    ours, theirs = (load_snapshot(folder / "yolov3-2_4.ckpt") for folder in (part, whole))
    for side in ("weights", "averages", "state"):
        for name, value in getattr(theirs, side).items():
            np.testing.assert_array_equal(getattr(ours, side)[name], value, err_msg=name)


def test_evaluation_of_quantized_and_float_weights(runs, dataset, tmp_path, capsys):
    quant, plain = runs / "quant" / "ckpt_0" / "yolov3-2_4.ckpt", runs / "float.ckpt"
    # The card records that it is quantized; the configuration need not.
    assert evaluate(dataset, tmp_path, "--pretrained", quant) == 0
    assert evaluate(dataset, tmp_path, "--pretrained", plain, "--quantization_aware", 1) == 2
    assert "holds a float network" in capsys.readouterr().err
    assert evaluate(dataset, tmp_path, "--pretrained", quant, "--quant_bits", "4,8") == 2
    assert "quant_bits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--quantization_aware", "1"], "pretrained is empty"),
        (["--quantization_aware", "1", "--amp_level", "O2"], "amp_level O0"),
        (["--per_channel", "True,True"], "per_channel"),
        (["--quant_bits", "9,8"], "quant_bits"),
    ],
)
def test_invalid_quantization_keys_are_refused(dataset, tmp_path, capsys, flags, message):
    assert train(dataset, tmp_path, *flags) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*/ckpt_0"))


@pytest.mark.parametrize(
    ("step", "weights", "activations", "frozen"),
    [(0, False, False, False), (1, True, False, False), (2, True, True, False), (3, True, True, True)],
)
def test_each_part_of_the_schedule_starts_at_its_step(step, weights, activations, frozen):
    """From the keys to the layers: `quant_delay` is (weights, activations)."""
    flags = [*TINY[2:], *QUANT, "--quant_delay", "1,2", "--freeze_bn_step", "3", "--pretrained", "x.ckpt"]
    cfg = load_config(TINY[1], flags).replace(num_classes=2)
    network = get_recipe(cfg).build_network().set_train()
    trainer = SimpleNamespace(
        cfg=cfg, next_step=step, train_step=SimpleNamespace(loss_cell=SimpleNamespace(network=network))
    )
    QuantSchedule().before_train(trainer)
    cells = [cell for _, cell in network.cells_and_names()]
    assert {cell.is_active for cell in cells if isinstance(cell, FakeQuantConv)} == {weights}
    assert {cell.is_active for cell in cells if isinstance(cell, FakeQuant)} == {activations}
    assert {cell.use_batch_statistics for cell in cells if isinstance(cell, nn.BatchNorm2d)} == {
        False if frozen else None
    }


@pytest.mark.slow
def test_fake_quantization_and_frozen_statistics_start_at_their_steps(runs, dataset, tmp_path):
    weights = runs / "float.ckpt"
    flags = ("--quant_delay", "1,2", "--freeze_bn_step", 3, "--max_epoch", 3, "--pretrained", weights)
    assert train(dataset, tmp_path, "--run_name", "late", *flags, *QUANT) == 0
    text = (tmp_path / "late" / "log.txt").read_text()
    assert "step 1: fake quantization of weights on, of activations off; batch norm training" in text
    assert "step 2: fake quantization of weights on, of activations on; batch norm training" in text
    assert "step 3: fake quantization of weights on, of activations on; batch norm frozen" in text
    two, three = (load_snapshot(tmp_path / "late" / "ckpt_0" / f"yolov3-{e}_{2 * e}.ckpt").weights for e in (2, 3))
    card = json.loads((tmp_path / "late" / "ckpt_0" / "yolov3-3_6.json").read_text())
    assert card["quantization"]["quantization_aware"] is True
    assert any(not np.array_equal(two[name], three[name]) for name in two if name.endswith("gamma"))
    # Step 3 belongs to epoch 2, so the statistics do not change between the two checkpoints.
    for name in (name for name in two if "moving_" in name):
        np.testing.assert_array_equal(two[name], three[name], err_msg=name)
