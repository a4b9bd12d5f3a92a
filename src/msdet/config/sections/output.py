"""Keys of what a command writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import EVERYWHERE, key


@dataclass(frozen=True)
class RunKeys:
    """Output of training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)

    ckpt_path: str = key(
        "outputs/", "folder of the run's checkpoints, logs and results", path=True, affects_training=False
    )
    run_name: str = key(
        "", "folder of the run inside ckpt_path; empty: the date and time of its start", affects_training=False
    )
    ckpt_interval: int = key(
        1, "epochs (not steps) between checkpoints", minimum=1, means_default=("None", "-1", ""), affects_training=False
    )
    keep_checkpoint_max: int = key(10, "newest checkpoints kept", minimum=1, affects_training=False)
    log_interval: int = key(100, "steps between log lines", minimum=1, affects_training=False)


@dataclass(frozen=True)
class RunDetailKeys:
    """Output of training in detail"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    save_checkpoint: bool = key(
        True, "write checkpoints; False: none, and nothing to continue from", affects_training=False
    )
    is_save_on_master: bool = key(True, "only process 0 saves; False: every process", affects_training=False)
    summary_dir: str = key(
        "",
        "folder of TensorBoard events and CSV, in it one with the name of each run; empty: in the run's folder",
        path=True,
        affects_training=False,
    )


@dataclass(frozen=True)
class HookKeys:
    """Hooks of your own"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    hooks: tuple[str, ...] = key(
        (),
        "classes that watch the training, as module.Class, found from the working folder; each a subclass of "
        "msdet.training.loop.Hook, made without arguments",
        affects_training=False,
    )


@dataclass(frozen=True)
class LogPathKeys:
    """Output"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("eval", "test", "predict", "postprocess")

    log_path: str = key("outputs/", "folder of the logs of an evaluation", path=True, affects_training=False)


@dataclass(frozen=True)
class LogKeys:
    """Display"""

    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    progress: str = key(
        "auto", "auto: a bar in a terminal, else lines", choices=("auto", "bar", "lines", "off"), affects_training=False
    )
    font: str = key(
        "",
        "font file for names on pictures and charts; empty: those of the system",
        path=True,
        affects_training=False,
    )
