"""Keys of the optimizer and the learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import ALL_COMMANDS, key


@dataclass(frozen=True)
class ScheduleKeys:
    """Training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    max_epoch: int = key(135, "epochs to train", minimum=1)
    per_batch_size: int = key(16, "training batch size per device", minimum=1, maximum=65536)
    lr: float = key(0.001, "learning rate after the warm-up", above=0)
    lr_scheduler: str = key(
        "cosine_annealing",
        "learning-rate schedule",
        choices=(
            "exponential",
            "cosine_annealing",
            "cosine_annealing_V2",
            "cosine_annealing_sample",
            "cosine_per_step",
        ),
    )
    warmup_epochs: float = key(0.0, "linear warm-up in epochs, may be fractional", minimum=0)
    momentum: float = key(0.9, "momentum of SGD", minimum=0, maximum=1)
    weight_decay: float = key(
        5e-4, "weight decay of convolution weights; for biases and batch norm set decay_norm_and_bias", minimum=0
    )
    ema_decay: float = key(
        0.0,
        "decay per step of the exponential moving average (EMA) of the weights; 0: no EMA",
        minimum=0,
        maximum=0.999999,
    )
    clip_grad_norm: float = key(
        0.0, "maximum global norm of the gradient, after loss_weight; 0: no clipping", minimum=0
    )
    accumulate_steps: int = key(1, "gradient accumulation: batches per optimizer step", minimum=1)
    label_smooth: bool = key(False, "smooth the class targets (label_smooth_factor)")
    amp_level: str = key(
        "auto",
        "mixed precision: O0 float32, O2 fp16 except batch norm and loss, O3 fp16; auto: on Ascend ascend_amp_level, "
        "else O0",
        choices=("auto", "O0", "O2", "O3"),
    )


@dataclass(frozen=True)
class OptimizerKeys:
    """Optimizer and schedule in detail"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    lr_epochs: tuple[int, ...] = key((92, 105), "exponential: epochs at which lr is multiplied by lr_gamma", minimum=0)
    lr_gamma: float = key(0.1, "exponential: decay factor", above=0, maximum=1)
    eta_min: float = key(0.0, "cosine: final learning rate", minimum=0)
    t_max: int = key(135, "cosine: half period in epochs; cosine_annealing uses at least max_epoch", minimum=1)
    lr_warmup_init: float = key(0.0, "learning rate of the first warm-up step; 0: lr / warm-up steps", minimum=0)
    decay_norm_and_bias: bool = key(False, "weight decay also on biases, batch norm and feature-fusion weights")
    loss_weight: float = key(1.0, "gradient factor before the optimizer; the logged loss does not include it", above=0)
    loss_scale: float = key(1024.0, "static loss scale for fp16 gradients; does not change the result", minimum=1)
    dynamic_loss_scale: bool = key(False, "adapt the loss scale to overflows")
    max_skipped_steps: int = key(
        50,
        "fp16: training stops after this many consecutive steps skipped for overflow, and saves the step in debug/",
        minimum=1,
        affects_training=False,
    )
    clip_grad_norm_each: float = key(
        0.0, "maximum gradient norm of each parameter, applied before clip_grad_norm; 0: no clipping", minimum=0
    )
    ascend_amp_level: str = key("O0", "amp_level on Ascend when that is auto", choices=("O0", "O2", "O3"))
    freeze_bn: bool = key(False, "freeze batch norm: use its running statistics in training and do not update them")
    label_smooth_factor: float = key(0.1, "label smoothing factor", minimum=0, maximum=1)
