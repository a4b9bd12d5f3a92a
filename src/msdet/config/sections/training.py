"""Keys of optimizer and schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import EVERYWHERE, key


@dataclass(frozen=True)
class ScheduleKeys:
    """Training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    max_epoch: int = key(135, "epochs to train", minimum=1)
    per_batch_size: int = key(16, "training images a step and process", minimum=1, maximum=65536)
    lr: float = key(0.001, "learning rate after the warm-up", above=0)
    lr_scheduler: str = key(
        "cosine_annealing",
        "course of the learning rate",
        choices=(
            "exponential",
            "cosine_annealing",
            "cosine_annealing_V2",
            "cosine_annealing_sample",
            "cosine_per_step",
        ),
    )
    warmup_epochs: float = key(0.0, "epochs of linear rise to lr; fractions count", minimum=0)
    momentum: float = key(0.9, "momentum of SGD", minimum=0, maximum=1)
    weight_decay: float = key(
        5e-4, "L2 penalty on convolution weights; on biases and batch norm only with decay_norm_and_bias", minimum=0
    )
    ema_decay: float = key(0.0, "decay per step of the averaged weights; 0: no averaging", minimum=0, maximum=0.999999)
    clip_grad_norm: float = key(0.0, "largest global norm of the gradient after loss_weight; 0: no limit", minimum=0)
    accumulate_steps: int = key(1, "batches whose gradients make one step", minimum=1)
    label_smooth: bool = key(False, "smooth the class targets")
    amp_level: str = key(
        "auto",
        "mixed precision: none, fp16 but for batch norm and loss, all fp16; auto: none, and on Ascend ascend_amp_level",
        choices=("auto", "O0", "O2", "O3"),
    )


@dataclass(frozen=True)
class OptimizerKeys:
    """Optimizer and schedule in detail"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    lr_epochs: tuple[int, ...] = key(
        (92, 105), "exponential: epochs at which the rate is multiplied by lr_gamma", minimum=0
    )
    lr_gamma: float = key(0.1, "exponential: the factor", above=0, maximum=1)
    eta_min: float = key(0.0, "cosine: the rate at its end", minimum=0)
    t_max: int = key(
        135, "cosine: epochs of the half period; at least max_epoch is used by cosine_annealing", minimum=1
    )
    lr_warmup_init: float = key(0.0, "rate of the first step of the warm-up; 0: that of one step's rise", minimum=0)
    decay_norm_and_bias: bool = key(False, "weight_decay on biases, batch norm and the weights of fusions too")
    loss_weight: float = key(
        1.0, "factor of the gradient before the optimiser; the log shows the loss without it", above=0
    )
    loss_scale: float = key(1024.0, "static loss scale: guards fp16 gradients, without effect on the result", minimum=1)
    dynamic_loss_scale: bool = key(False, "let the loss scale follow overflows")
    max_skipped_steps: int = key(
        50,
        "fp16: steps with an overflow, which are left out, in a row after which training stops and keeps the step in "
        "debug/",
        minimum=1,
        affects_training=False,
    )
    clip_grad_norm_each: float = key(
        0.0, "largest norm of the gradient of each weight, applied before clip_grad_norm; 0: no limit", minimum=0
    )
    ascend_amp_level: str = key("O0", "what amp_level auto is on Ascend", choices=("O0", "O2", "O3"))
    freeze_bn: bool = key(False, "batch norm uses its running statistics in training too and leaves them as they are")
    label_smooth_factor: float = key(0.1, "how much the true class gives to the others", minimum=0, maximum=1)
