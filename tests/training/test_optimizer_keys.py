"""Every optimizer key, from the configuration to the values that it changes, against float64 numpy."""

import dataclasses
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from msdet.config import load_config
from msdet.config.sections.training import OptimizerKeys, ScheduleKeys
from msdet.data.dataset import DetectionDataset, Sample
from msdet.data.transforms.pipeline import plain_pipeline
from msdet.errors import UsageError, UserError
from msdet.models.efficientdet_d0.bifpn import Fusion
from msdet.models.recipe import get_recipe
from msdet.runtime import device
from msdet.runtime.start import Runtime, start
from msdet.session.datasets import training_loader
from msdet.training.step import is_norm_or_bias
from tests.training.slow_training import (
    BASE,
    Criterion,
    Notes,
    Slow,
    StubRecipe,
    initial_weights,
    slow_rate,
    trainer_of,
)

pytestmark = pytest.mark.usefixtures("graph_mode", "at_root")

# Key -> what is set besides `BASE`, the key among it.
CASES = {
    "max_epoch": {"max_epoch": 3},
    "lr": {"lr": 0.02},
    "lr_scheduler": {"lr_scheduler": "exponential"},
    "lr_epochs": {"lr_scheduler": "exponential", "lr_epochs": "2"},
    "lr_gamma": {"lr_scheduler": "exponential", "lr_gamma": 0.3},
    "eta_min": {"eta_min": 0.03},
    "t_max": {"t_max": 8},
    "warmup_epochs": {"warmup_epochs": 1.5},
    "lr_warmup_init": {"warmup_epochs": 1.5, "lr_warmup_init": 0.03},
    "momentum": {"momentum": 0.5},
    "weight_decay": {"weight_decay": 0.3},
    "decay_norm_and_bias": {"weight_decay": 0.3, "decay_norm_and_bias": True},
    "loss_weight": {"loss_weight": 0.25},
    "clip_grad_norm": {"clip_grad_norm": 2.0},
    "clip_grad_norm_each": {"clip_grad_norm_each": 0.5},
    # Three steps per epoch: windows continue across epochs.
    "accumulate_steps": {"accumulate_steps": 2},
    # Reached at the fifth step: (1 + 4) / (10 + 4) is less, (1 + 5) / (10 + 5) is not.
    "ema_decay": {"ema_decay": 0.4},
    "freeze_bn": {"freeze_bn": True, "lr": 0.01},
}
EVERYTHING = {
    "weight_decay": 0.1, "loss_weight": 0.5, "clip_grad_norm": 1.5, "clip_grad_norm_each": 1.0, "momentum": 0.6,
    "accumulate_steps": 2, "ema_decay": 0.3, "warmup_epochs": 1.0, "lr_warmup_init": 0.01, "decay_norm_and_bias": True,
    "lr_scheduler": "cosine_per_step", "eta_min": 0.005,
}  # fmt: skip
COVERED = set(CASES)


def covers(*keys):
    """Records that a test covers these keys."""
    COVERED.update(keys)
    return lambda test: test


def fitted(keys, folder, **options):
    """Trains; returns the trainer and the result of each step."""
    notes = Notes()
    trainer = trainer_of(keys, folder, **options)
    trainer.fit([notes])
    return trainer, notes.results


def weights_of(trainer):
    """Name -> weight or statistic, by the names in the original network."""
    network = trainer.train_step.loss_cell.network
    return {p.name.replace("_backbone.", ""): p.asnumpy() for p in network.get_parameters()}


def velocity_of(trainer):
    state = trainer.train_step.state()
    return {name.removeprefix("velocity."): v for name, v in state.items() if name.startswith("velocity.")}


def assert_close(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, err_msg=name, **tolerance)


@pytest.mark.parametrize("name", [*CASES, "base", "everything"])
def test_a_training_equals_its_float64_reference(name, tmp_path):
    # Keys reach the step in the same way in both modes; the compiled step differs most where all of them are set.
    ms.set_context(mode=ms.GRAPH_MODE if name in ("everything", "freeze_bn") else ms.PYNATIVE_MODE)
    keys = {**CASES, "base": {}, "everything": EVERYTHING}[name]
    trainer, results = fitted(keys, tmp_path)
    slow = Slow(keys)
    assert len(results) == len(slow.results)
    for step, (ours, theirs) in enumerate(zip(results, slow.results, strict=True)):
        for what in ("rate", "loss", "gradient_norm"):
            assert getattr(ours, what) == pytest.approx(getattr(theirs, what), rel=2e-5), (step, what)
        assert list(ours.losses.values()) == pytest.approx(theirs.losses, rel=2e-5, abs=1e-5)
    near = {"rtol": 2e-5, "atol": 5e-6}
    assert_close(weights_of(trainer), slow.weights, **near)
    assert_close(velocity_of(trainer), slow.velocity, **near)
    assert_close(trainer.train_step.averages(), slow.averages if "ema_decay" in keys else {}, **near)


@pytest.mark.parametrize("key", CASES)
def test_each_case_depends_on_its_key(key):
    """Without its key the reference gives other values, so the test above fails if the key is lost."""
    assert str(CASES[key][key]) != str(BASE[key])
    with_key = Slow(CASES[key])
    without = Slow({name: value for name, value in CASES[key].items() if name != key})
    before, after = ({**s.weights, **({"averages": s.averages["fusion"]})} for s in (without, with_key))
    if key == "ema_decay":
        assert np.abs(before.pop("averages") - after.pop("averages")).max() > 1e-3
    else:
        assert max(np.abs(before[name] - after[name]).max() for name in with_key.weights) > 1e-3


@covers("lr_scheduler")
@pytest.mark.parametrize(
    "kind", ["exponential", "cosine_annealing", "cosine_annealing_V2", "cosine_annealing_sample", "cosine_per_step"]
)
def test_rates_of_all_schedulers(kind, tmp_path):
    keys = {
        **BASE, "lr_scheduler": kind, "max_epoch": 125, "t_max": 140, "eta_min": 0.001, "lr_epochs": "40,90",
        "lr_gamma": 0.3, "warmup_epochs": 2.5, "lr_warmup_init": 0.01,
    }  # fmt: skip
    schedule = trainer_of(keys, tmp_path, steps_per_epoch=2).schedule
    rates = [schedule(*divmod(step, 2)) for step in range(250)]
    np.testing.assert_allclose(rates, [slow_rate(keys, step, 2) for step in range(250)], rtol=1e-12)


@covers("decay_norm_and_bias")
def test_parameters_without_decay_are_the_norms_and_biases_of_real_layers():
    layers = nn.SequentialCell(nn.Conv2d(4, 4, 1, has_bias=True), nn.BatchNorm2d(4), Fusion(2, 4))
    free = {p.name for p in layers.trainable_params() if is_norm_or_bias(p.name)}
    assert free == {p.name for p in layers.trainable_params() if p.ndim == 1}
    assert {"2.fusion", "0.bias", "1.gamma", "1.beta"} < free


@covers("amp_level")
@pytest.mark.parametrize(
    ("level", "convolution", "norm"),
    [("O0", ms.float32, ms.float32), ("O2", ms.float16, ms.float32), ("O3", ms.float16, ms.float16)],
)
def test_amp_level_sets_the_precision_of_layers(level, convolution, norm, tmp_path, uncompiled):
    trainer = trainer_of({"amp_level": level, "max_epoch": 1}, tmp_path)
    seen = {}

    def note(cell, inputs, output):
        seen.setdefault(type(cell), output.dtype)

    for cell in trainer.train_step.loss_cell.network.cells():
        for _, layer in cell.cells_and_names():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.register_forward_hook(note)
    trainer.fit([])
    assert seen == {nn.Conv2d: convolution, nn.BatchNorm2d: norm}
    # Trained and saved weights have full precision.
    assert {value.dtype for value in weights_of(trainer).values()} == {np.dtype(np.float32)}


@covers("ascend_amp_level")
def test_ascend_amp_level_sets_the_precision_of_layers_on_ascend_alone(tmp_path, monkeypatch):
    keys = {"ascend_amp_level": "O2", "max_epoch": 1}
    is_half = []
    for name in ("CPU", "ascend910b"):
        # Only the amp level is that of the device; the layers remain those of a CPU.
        monkeypatch.setattr(device, "device_traits", lambda name=name: device.TRAITS[name])
        cells = trainer_of(keys, tmp_path / name).train_step.loss_cell.network.cells_and_names()
        is_half.append(any(getattr(cell, "fp16", False) for _, cell in cells))
    assert is_half == [False, True]


@covers("amp_level", "loss_scale", "freeze_bn")
@pytest.mark.parametrize("level", ["O2", "O3"])
def test_half_precision_is_close_to_float32_for_any_loss_scale(level, tmp_path):
    keys = {"amp_level": level, "max_epoch": 1, "weight_decay": 0.1, "ema_decay": 0.5, "freeze_bn": True}
    slow = Slow(keys)
    for scale in (8.0, 2048.0):
        trainer, results = fitted({**keys, "loss_scale": scale}, tmp_path)
        assert [result.loss_scale for result in results] == [scale] * 3
        for ours, theirs in zip(results, slow.results, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, rel=5e-3)
            assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-2)
        assert abs(results[0].loss - slow.results[0].loss) > 1e-5
        assert_close(weights_of(trainer), slow.weights, atol=5e-3)
        assert_close(velocity_of(trainer), slow.velocity, rtol=0.02, atol=0.05)
        assert_close(trainer.train_step.averages(), slow.averages, atol=5e-3)


class Faint(Criterion):
    """A loss whose gradients are too small for float16."""

    def construct(self, outputs, boxes, labels, size):
        outputs = ops.cast(outputs, ms.float32)
        wanted = ops.cast(ops.reshape(labels, (-1, 2, 1, 1)), ms.float32)
        error, magnitude = ops.square(outputs - wanted), ops.square(ops.square(outputs))
        return 1e-7 * ops.reduce_mean(error), 1e-8 * ops.reduce_mean(magnitude)


@covers("loss_scale")
def test_loss_scale_keeps_small_gradients(tmp_path):
    keys = {"amp_level": "O2", "max_epoch": 1}
    norms = {}
    for scale in (1.0, 65536.0):
        _, results = fitted({**keys, "loss_scale": scale}, tmp_path, recipe=StubRecipe(Faint))
        norms[scale] = results[0].gradient_norm / 1e-7
    assert norms[1.0] < 5 and norms[65536.0] == pytest.approx(Slow({"max_epoch": 1}).results[0].gradient_norm, rel=1e-2)


@covers("loss_scale", "dynamic_loss_scale")
def test_float32_has_no_loss_scale(tmp_path):
    _, results = fitted({"loss_scale": 64.0, "dynamic_loss_scale": True, "max_epoch": 1}, tmp_path)
    assert [result.loss_scale for result in results] == [1, 1, 1]
    with pytest.raises(UserError, match="the loss is not finite"):
        fitted({"dynamic_loss_scale": True, "max_epoch": 1}, tmp_path, non_finite=(1,))


@covers("loss_scale")
def test_a_loss_scale_below_one_is_refused():
    with pytest.raises(UsageError, match="loss_scale"):
        load_config("configs/yolov3_shapes.yaml", ["--loss_scale", "0.5"])


@covers("dynamic_loss_scale")
def test_a_dynamic_loss_scale_follows_overflows_and_never_falls_below_one(tmp_path):
    keys = {"amp_level": "O2", "dynamic_loss_scale": True, "loss_scale": 4.0}
    trainer, results = fitted(keys, tmp_path, non_finite=(1, 2, 3, 4, 6))
    assert [result.loss_scale for result in results] == [4, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [not result.is_finite for result in results] == [step in (1, 2, 3, 4, 6) for step in range(12)]
    assert trainer.skipped == 5
    # It doubles after 2000 good steps.
    again = trainer_of(keys, tmp_path)
    again.train_step.good_steps.set_data(Tensor(1998, ms.float32))
    notes = Notes()
    again.fit([notes])
    assert [result.loss_scale for result in notes.results] == [4, 4, *[8] * 10]


@covers("dynamic_loss_scale")
def test_a_static_loss_scale_stays_and_overflows_are_skipped(tmp_path):
    trainer, results = fitted({"amp_level": "O2", "loss_scale": 4.0}, tmp_path, non_finite=(1, 3))
    assert [result.loss_scale for result in results] == [4] * 12
    assert [not result.is_finite for result in results] == [step in (1, 3) for step in range(12)]
    assert trainer.skipped == 2


@covers("max_skipped_steps")
@pytest.mark.parametrize("most", [2, 3])
def test_max_skipped_steps_overflows_in_a_row_end_the_run(most, tmp_path):
    keys = {"amp_level": "O2", "dynamic_loss_scale": True, "max_skipped_steps": most}
    fitted(keys, tmp_path, non_finite=(*range(1, most), *range(most + 1, 2 * most)))
    with pytest.raises(UserError, match=rf"{most} times in a row in epoch \d, step {most}:"):
        fitted(keys, tmp_path, non_finite=range(1, 9))


class ImageStore:
    """Small grey images in memory."""

    def read(self, path):
        return cv2.imencode(".png", np.full((8, 8, 3), int(path.stem), np.uint8))[1].tobytes()

    def size(self, path):
        return len(self.read(path))


def grey_images(count):
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0, bool)
    samples = [Sample(Path(f"{i}.png"), i, 8, 8, *empty) for i in range(count)]
    return DetectionDataset(samples, ["red"], [1], Path("train.json"), Path("train"), store=ImageStore())


def batches(*flags):
    """Batches of two epochs of twelve images."""
    cfg = load_config(
        "configs/yolov3_shapes.yaml", ["--num_parallel_workers=0", "--training_shape=32", "--max_boxes=1", *flags]
    )
    with training_loader(cfg, grey_images(12), plain_pipeline(), Runtime("CPU")) as loader:
        found = [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]
        assert len(found) == 2 * loader.steps_per_epoch
    return found


@covers("per_batch_size")
@pytest.mark.parametrize(("size", "steps"), [(4, 3), (5, 2), (12, 1)])
def test_each_step_has_per_batch_size_images(size, steps):
    loaded = batches(f"--per_batch_size={size}")
    assert len(loaded) == 2 * steps and {batch.images.shape[0] for batch in loaded} == {size}


def test_the_seed_determines_order_and_initial_weights():
    def order(seed):
        return [batch.indices.tolist() for batch in batches("--per_batch_size=12", f"--seed={seed}")]

    for seed in (3, 4):
        generators = [np.random.Generator(np.random.PCG64([seed, epoch, 0, 2])) for epoch in (0, 1)]
        assert order(seed) == [generator.permutation(12).tolist() for generator in generators]

    def weight(seed):
        flags = ["--backbone_shape=4,4,4,4,4,4", "--backbone_layers=1,1,1,1,1", f"--seed={seed}", "--device_target=CPU"]
        cfg = load_config("configs/yolov3_shapes.yaml", flags).replace(num_classes=1)
        start(cfg)
        return get_recipe(cfg).build_network().trainable_params()[0].asnumpy().copy()

    first = weight(3)
    np.testing.assert_array_equal(weight(3), first)
    assert not np.array_equal(weight(4), first)


LOGITS = np.array([2, -1, 0.5])


def classifier_loss(criterion):
    return criterion(Tensor(LOGITS[None], ms.float32), Tensor([0], ms.int32))[0]


def yolo_class_loss(criterion):
    """The class loss of a single box."""
    slot = Tensor(LOGITS[None, None, None], ms.float32)
    return criterion._class_loss(slot, Tensor([[0]], ms.int32), ops.ones((1, 1, 1), ms.float32))


@covers("label_smooth", "label_smooth_factor")
@pytest.mark.parametrize(
    ("config", "loss_of", "plain"),
    [
        ("darknet53_imagenet", classifier_loss, np.log(np.exp(LOGITS).sum()) - LOGITS[0]),
        ("cspdarknet53_imagenet", classifier_loss, np.log(np.exp(LOGITS).sum()) - LOGITS[0]),
        ("yolov3_shapes", yolo_class_loss, np.log1p(np.exp(LOGITS)).sum() - LOGITS[0]),
        ("yolov4", yolo_class_loss, np.log1p(np.exp(LOGITS)).sum() - LOGITS[0]),
    ],
)
def test_label_smoothing_moves_target_mass_to_the_other_classes(config, loss_of, plain, uncompiled):
    """A fraction f of the target moves from the true class to the two others: the loss grows by f times the difference
    between the logit of the true class and the mean of the others."""

    def loss(smooth, factor):
        flags = [f"--label_smooth={smooth}", f"--label_smooth_factor={factor}"]
        recipe = get_recipe(load_config(f"configs/{config}.yaml", flags).replace(num_classes=3, class_names=()))
        return float(loss_of(recipe.build_criterion()))

    assert loss(0, 0.3) == pytest.approx(plain, rel=5e-5)
    for factor in (0.1, 0.3):
        assert loss(1, factor) == pytest.approx(plain + factor * (LOGITS[0] - LOGITS[1:].mean()), rel=5e-5)


def test_every_optimizer_key_has_a_test():
    names = {field.name for kind in (ScheduleKeys, OptimizerKeys) for field in dataclasses.fields(kind)}
    assert names <= COVERED, f"add a case of {sorted(names - COVERED)}: from key to changed value"
    assert {key for key in CASES if key not in CASES[key]} == set()
    assert names >= COVERED
    assert set(initial_weights()) == set(Slow({"max_epoch": 1}).weights)
