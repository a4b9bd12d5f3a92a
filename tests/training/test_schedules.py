"""Learning-rate schedules against closed forms, step-by-step loops and log lines of published trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msdet.errors import UsageError
from msdet.training.schedules import build_schedule, schedule_warnings

COSINES = ("cosine_annealing", "cosine_annealing_V2", "cosine_annealing_sample")
KINDS = ("exponential", *COSINES)


def by_step(kind, lr, steps_per_epoch, max_epoch, *others, **named):
    """The schedule as a function of the steps since the start."""
    rate = build_schedule(kind, lr, steps_per_epoch, max_epoch, *others, **named)
    return lambda step: rate(*divmod(step, steps_per_epoch))


@pytest.mark.parametrize("kind", KINDS)
def test_warmup_rises_linearly_to_lr(kind):
    rate = by_step(kind, 0.012, steps_per_epoch=10, max_epoch=130, warmup_epochs=2.5, lr_epochs=(1,))
    np.testing.assert_allclose([rate(s) for s in range(25)], 0.012 * np.arange(1, 26) / 25, rtol=1e-12)
    assert rate(0) > 0
    assert rate(24) == pytest.approx(0.012)


# YOLOv4's training on one device: 14,658 steps an epoch, warm-up of 4 epochs; on eight: 1,832 and 20.
@pytest.mark.parametrize(
    ("steps_per_epoch", "warmup_epochs", "step", "logged"),
    [
        (14658, 4, 0, 2.0466639227834094e-07),
        (14658, 4, 100, 2.067130662908312e-05),
        (14658, 4, 800, 0.00016393778787460178),
        (1832, 20, 800, 0.00026233625249005854),
        (1832, 20, 2000, 0.0006553493440151215),
    ],
)
def test_yolov4_log(steps_per_epoch, warmup_epochs, step, logged):
    rate = by_step("cosine_annealing", 0.012, steps_per_epoch, 320, warmup_epochs, t_max=320)
    assert rate(step) == pytest.approx(logged, rel=1e-6)


@pytest.mark.parametrize(
    ("epoch", "step", "logged"),
    [(133, 85700, 6.497331924038008e-06), (134, 85900, 1.6245529650404933e-06), (134, 86500, 1.6245529650404933e-06)],
)
def test_yolov3_quant_log(epoch, step, logged):
    # The logged iteration is counted over all of the training; 641 steps an epoch.
    rate = by_step("cosine_annealing", 0.012, 641, 135, warmup_epochs=5, t_max=135)
    assert step // 641 == epoch
    assert rate(step) == pytest.approx(logged, rel=1e-6)


def test_warmup_epochs_count_as_epochs_of_the_curve():
    rate = by_step("cosine_annealing", 0.012, 10, 320, warmup_epochs=20)
    assert rate(200) == pytest.approx(0.012 * (1 + math.cos(math.pi * 20 / 320)) / 2)
    assert rate(200) == pytest.approx(0.01188, abs=5e-6)


def test_exponential_falls_at_each_milestone():
    rate = by_step("exponential", 0.1, 10, 12, lr_epochs=(9, 4), lr_gamma=0.5)
    values = [rate(10 * epoch + 9) for epoch in range(12)]
    np.testing.assert_allclose(values, [0.1] * 4 + [0.05] * 5 + [0.025] * 3)
    assert rate(39) == 0.1
    assert rate(40) == 0.05


def test_cosine_is_constant_within_an_epoch_and_ends_above_eta_min():
    rate = by_step("cosine_annealing", 1.0, 4, 10, eta_min=0.2)
    values = np.array([rate(step) for step in range(40)]).reshape(10, 4)
    assert (values == values[:, :1]).all()
    np.testing.assert_allclose(values[:, 0], 0.2 + 0.8 * (1 + np.cos(np.pi * np.arange(10) / 10)) / 2)


def test_cosine_does_not_rise_again():
    short = by_step("cosine_annealing", 1.0, 1, 10, t_max=5)  # raised to max_epoch
    full = by_step("cosine_annealing", 1.0, 1, 10, t_max=10)
    longer = by_step("cosine_annealing", 1.0, 1, 10, t_max=20)
    assert [short(s) for s in range(10)] == [full(s) for s in range(10)]
    assert longer(9) == pytest.approx((1 + math.cos(math.pi * 9 / 20)) / 2)
    assert full(10) == full(15) == 0


def slow_v2(lr, eta_min, steps_per_epoch, max_epoch, t_max):
    """The published loop over steps: a second cosine starts from the last rate and epoch of the first."""
    rates, start_rate, start_epoch = [], lr, 0
    total = steps_per_epoch * max_epoch
    for step in range(total):
        epoch = step // steps_per_epoch
        if 3 * step < 2 * total:
            rates.append(eta_min + (lr - eta_min) * (1 + math.cos(math.pi * epoch / t_max)) / 2)
            start_rate, start_epoch = rates[-1], epoch
        else:
            part = (epoch - start_epoch) / (max_epoch // 3)
            rates.append(eta_min + (start_rate - eta_min) * (1 + math.cos(math.pi * part)) / 2)
    return rates


@pytest.mark.parametrize(("max_epoch", "t_max"), [(9, 9), (10, 10), (11, 14), (135, 135), (3, 3)])
def test_v2_equals_the_loop_over_steps(max_epoch, t_max):
    rate = by_step("cosine_annealing_V2", 0.4, 5, max_epoch, eta_min=0.01, t_max=t_max)
    expected = slow_v2(0.4, 0.01, 5, max_epoch, t_max)
    np.testing.assert_allclose([rate(step) for step in range(5 * max_epoch)], expected, rtol=1e-12)
    assert rate(5 * max_epoch - 1) == pytest.approx(0.01)


@pytest.mark.parametrize("max_epoch", [1, 2])
def test_v2_of_very_few_epochs(max_epoch):
    rate = by_step("cosine_annealing_V2", 0.4, 5, max_epoch)
    assert rate(0) == 0.4


def test_sample_skips_every_other_epoch_of_a_range():
    rate = by_step("cosine_annealing_sample", 0.1, 2, 135)
    kept = [epoch for epoch in range(195) if not (60 <= epoch < 180 and epoch % 2 == 0)]
    assert len(kept) == 135
    expected = 0.1 * (1 + np.cos(np.pi * np.array(kept) / 195)) / 2
    np.testing.assert_allclose([rate(2 * epoch) for epoch in range(135)], expected, rtol=1e-12)


@pytest.mark.parametrize("max_epoch", [119, 200])
def test_sample_has_an_epoch_for_every_epoch(max_epoch):
    rate = by_step("cosine_annealing_sample", 0.1, 1, max_epoch)
    values = [rate(step) for step in range(max_epoch)]
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_warmup_the_first_rate_is_lr(kind):
    assert by_step(kind, 0.3, 7, 120)(0) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "poly"}, "lr_scheduler"),
        ({"kind": "cosine_annealing_sample", "max_epoch": 118}, "118"),
        ({"max_epoch": 0}, "epochs"),
        ({"steps_per_epoch": 0}, "steps"),
        ({"lr": -1.0}, "lr"),
        ({"lr": 0.0}, "lr must be a number above 0"),
        ({"lr_warmup_init": -1.0}, "lr_warmup_init"),
        ({"lr": float("nan")}, "lr"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"t_max": -5}, "t_max"),
        ({"lr_gamma": float("inf")}, "lr_gamma"),
    ],
)
def test_wrong_arguments_are_usage_errors(change, message):
    arguments = {"kind": "exponential", "lr": 0.1, "steps_per_epoch": 10, "max_epoch": 200} | change
    with pytest.raises(UsageError, match=message):
        by_step(**arguments)


def test_cosine_per_step_is_google_automls():
    """Its rule by global steps: warm-up from lr_warmup_init; then a cosine over the steps that are no warm-up, of which
    those of the warm-up count as the first."""
    steps_per_epoch, max_epoch, lr, init = 7, 30, 0.08, 0.008
    rate = by_step("cosine_per_step", lr, steps_per_epoch, max_epoch, warmup_epochs=1, lr_warmup_init=init)
    total, warm = steps_per_epoch * max_epoch, steps_per_epoch
    for step in range(total):
        cosine = 0.5 * lr * (1 + math.cos(math.pi * step / (total - warm)))
        expected = init + step / warm * (lr - init) if step < warm else cosine
        assert rate(step) == pytest.approx(expected, rel=1e-9), step
    assert rate(0) == init and rate(warm) < lr
    assert rate(total - 1) < 3e-3 * lr


@pytest.mark.parametrize("kind", [*KINDS, "cosine_per_step"])
def test_the_rate_depends_on_the_fraction_of_the_epoch_not_its_number_of_steps(kind):
    few = build_schedule(kind, 0.1, 4, 120, warmup_epochs=2, lr_epochs=(60,))
    many = build_schedule(kind, 0.1, 40, 120, warmup_epochs=2, lr_epochs=(60,))
    for epoch in range(120):
        for quarter in range(4):
            if epoch < 2:  # at the end of the same quarter
                assert few(epoch, quarter) == pytest.approx(many(epoch, 10 * quarter + 9)), (epoch, quarter)
            else:
                assert few(epoch, quarter) == pytest.approx(many(epoch, 10 * quarter)), (epoch, quarter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t_max": 320}, "t_max 320 is longer than max_epoch 30: the rate ends at 98 % of lr"),
        ({"warmup_epochs": 30}, "the rate only rises"),
        ({"kind": "exponential"}, "lr_epochs 92, 105 lie beyond max_epoch 30: the rate never falls"),
        (
            {"kind": "exponential", "max_epoch": 100},
            "lr_epochs 105 lie beyond max_epoch 100: the rate does not fall there",
        ),
        (
            {"kind": "exponential", "max_epoch": 500, "lr_epochs": (76, 98)},
            "lr_epochs end at 98 of max_epoch 500: the other 402 epochs have the lowest rate. Set --lr_epochs 349,450",
        ),
        ({"lr_warmup_init": 0.2}, "lr_warmup_init 0.2 is above lr 0.1: the rate falls during the warm-up"),
        ({}, None),
        ({"lr_warmup_init": 0.05}, None),
        ({"lr_warmup_init": 0.2, "warmup_epochs": 0}, None),
        ({"kind": "cosine_annealing_V2", "t_max": 320}, None),
        ({"kind": "exponential", "max_epoch": 120, "t_max": 320}, None),
        ({"max_epoch": 500, "t_max": 500}, None),
    ],
)
def test_unreachable_parts_and_a_falling_warmup_are_warned_of_with_a_remedy(change, message):
    arguments = {
        "kind": "cosine_annealing", "lr": 0.1, "max_epoch": 30, "warmup_epochs": 4, "lr_epochs": (92, 105), "t_max": 30,
        "lr_warmup_init": 0,
    }  # fmt: skip
    sentences = list(schedule_warnings(**{**arguments, **change}))
    assert len(sentences) == (message is not None)
    assert message is None or (message in sentences[0] and "Set --" in sentences[0])
