"""Keys of the device and the processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import EVERYWHERE, key


@dataclass(frozen=True)
class DeviceKeys:
    """Device"""

    device_target: str = key(
        "auto",
        "where to compute; auto: what MSDET_DEVICE in the environment says, else Ascend or GPU where there is one, "
        "else CPU",
        choices=("auto", "CPU", "GPU", "Ascend"),
        affects_training=False,
    )
    device_id: int = key(0, "number of the card", minimum=0, affects_training=False)


@dataclass(frozen=True)
class DistributedKeys:
    """Several processes"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "compare")
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    is_distributed: bool = key(
        False, "several processes, started by msrun; ranks are taken from its environment", affects_training=False
    )
    rank: int = key(0, "number of this process; msrun's own value wins", minimum=0, affects_training=False)
    group_size: int = key(1, "number of processes; msrun's own value wins", minimum=1)


@dataclass(frozen=True)
class CompileKeys:
    """Compilation and precision"""

    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    mode: str = key(
        "graph", "compiled graph, or PyNative to debug", choices=("graph", "pynative"), affects_training=False
    )
    jit_level: str = key(
        "auto",
        "how graphs are compiled on Ascend and GPU: kernel by kernel, with fused kernels, as one graph of the device; "
        "auto: O2 on Ascend 910 and, training for int8, on all Ascend chips, else O0",
        choices=("auto", "O0", "O1", "O2"),
        affects_training=False,
    )
    dynamic_shapes: str = key(
        "auto",
        "one compiled training step for all sizes and numbers of boxes; auto: on CPU and GPU. off: one for each size",
        choices=("auto", "on", "off"),
        affects_training=False,
    )
    deterministic: bool = key(
        False, "Ascend, GPU: bit for bit the same in every run, slower; a CPU always is", affects_training=False
    )
    allow_hf32: bool = key(
        True,
        "float32 convolutions of Ascend A2 (HF32) and GPU (TF32) may drop bits for speed, as CANN and cuDNN do by "
        "default; False: full float32",
        affects_training=False,
    )
    seed: int = key(1, "seed of weights, order and augmentation", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True)
class ProfilerKeys:
    """Profiler"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    need_profiler: bool = key(
        False, "record a profile of the first steps with MindSpore's profiler", affects_training=False
    )
