"""Keys of what a command writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import ALL_COMMANDS, key


@dataclass(frozen=True)
class RunKeys:
    """Output of training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    ckpt_path: str = key(
        "outputs/", "root folder of training runs (checkpoints, logs, results)", path=True, affects_training=False
    )
    run_name: str = key("", "name of the run folder in ckpt_path; empty: date and time", affects_training=False)
    ckpt_interval: int = key(
        1, "epochs (not steps) between checkpoints", minimum=1, means_default=("None", "-1", ""), affects_training=False
    )
    keep_checkpoint_max: int = key(10, "number of checkpoints to keep", minimum=1, affects_training=False)
    log_interval: int = key(100, "steps between log lines", minimum=1, affects_training=False)


@dataclass(frozen=True)
class RunDetailKeys:
    """Output of training in detail"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    save_checkpoint: bool = key(True, "save checkpoints; without them a run cannot be resumed", affects_training=False)
    is_save_on_master: bool = key(True, "save checkpoints on rank 0 only; False: on every rank", affects_training=False)
    summary_dir: str = key(
        "",
        "root folder of TensorBoard events and CSV files, one subfolder per run; empty: in the run folder",
        path=True,
        affects_training=False,
    )


@dataclass(frozen=True)
class HookKeys:
    """Custom hooks"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    hooks: tuple[str, ...] = key(
        (),
        "training hooks as module.Class, importable from the working folder; subclasses of msdet.training.loop.Hook "
        "without constructor arguments",
        affects_training=False,
    )


@dataclass(frozen=True)
class LogPathKeys:
    """Output"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("eval", "test", "predict", "postprocess")

    log_path: str = key("outputs/", "root folder of logs and results", path=True, affects_training=False)


@dataclass(frozen=True)
class LogKeys:
    """Display"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    progress: str = key(
        "auto",
        "progress display; auto: a bar in a terminal, else log lines",
        choices=("auto", "bar", "lines", "off"),
        affects_training=False,
    )
    font: str = key(
        "",
        "font file for text in images and charts; empty: system fonts",
        path=True,
        affects_training=False,
    )
