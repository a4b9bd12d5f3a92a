"""Keys of the device, distribution and compilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import ALL_COMMANDS, key


@dataclass(frozen=True)
class DeviceKeys:
    """Device"""

    device_target: str = key(
        "auto",
        "device; auto: the environment variable MSDET_DEVICE if set, else Ascend or GPU if available, else CPU",
        choices=("auto", "CPU", "GPU", "Ascend"),
        affects_training=False,
    )
    device_id: int = key(0, "device number", minimum=0, affects_training=False)


@dataclass(frozen=True)
class DistributedKeys:
    """Distributed training"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "compare")
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    is_distributed: bool = key(
        False,
        "run distributed over the processes started by msrun; ranks come from its environment",
        affects_training=False,
    )
    rank: int = key(0, "rank of this process; the value of msrun takes precedence", minimum=0, affects_training=False)
    group_size: int = key(1, "number of processes; the value of msrun takes precedence", minimum=1)


@dataclass(frozen=True)
class CompileKeys:
    """Compilation and precision"""

    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    mode: str = key(
        "graph", "compiled graph, or PyNative for debugging", choices=("graph", "pynative"), affects_training=False
    )
    jit_level: str = key(
        "auto",
        "graph compilation on Ascend and GPU: O0 kernel by kernel, O1 with fused kernels, O2 the whole graph; auto: O2 "
        "on Ascend 910, and for quantization-aware training on every Ascend, else O0",
        choices=("auto", "O0", "O1", "O2"),
        affects_training=False,
    )
    dynamic_shapes: str = key(
        "auto",
        "on: one compiled training step for all sizes and numbers of boxes; off: one per size; auto: on on CPU, GPU",
        choices=("auto", "on", "off"),
        affects_training=False,
    )
    deterministic: bool = key(
        False, "bit-identical runs on Ascend and GPU, at lower speed; CPU runs always are", affects_training=False
    )
    allow_hf32: bool = key(
        True,
        "float32 convolutions in HF32 (Ascend A2) or TF32 (GPU), the default of CANN and cuDNN; False: full float32",
        affects_training=False,
    )
    seed: int = key(
        1, "random seed of weight initialisation, image order and augmentation", minimum=0, maximum=2**31 - 1
    )


@dataclass(frozen=True)
class ProfilerKeys:
    """Profiler"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train",)
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    need_profiler: bool = key(
        False, "record a profile of the first steps with MindSpore's profiler", affects_training=False
    )
