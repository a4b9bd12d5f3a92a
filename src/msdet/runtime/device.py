"""What each device wants: the one table of it, each entry with its source.

CPU entries were measured here. Those of Ascend are what MindSpore's own Ascend code decides (tests/ascend compile with
it, beside stubs of CANN) and what its documents say: nothing ran on a chip. No GPU was run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mindspore as ms

if TYPE_CHECKING:
    from msdet.config import Config


@dataclass(frozen=True)
class DeviceTraits:
    """What a device is like, and the settings that follow where a key is left on `auto`.

    Attributes:
        name: for people.
        jit_level: how graphs are compiled: O0 kernel by kernel, O1 with fused kernels, O2 as one graph of the device.
        dynamic_shapes: one compiled step may serve several sizes of images and numbers of boxes.
        saturates: an overflow gives the largest number instead of infinity: it is told by the chip's status alone.
        float16_convolutions: float32 convolutions are computed in float16, so gradients need a loss scale.
        native_layers: layers train as the device's own operators, instead of in the forms that suit a CPU.
        runs_ahead: the host may launch a step before the one before it is done; results are read a step late.
        is_ascend: whether it is one of the Ascend chips.
    """

    name: str
    jit_level: str
    dynamic_shapes: bool
    saturates: bool = False
    float16_convolutions: bool = False
    native_layers: bool = True
    runs_ahead: bool = True
    is_ascend: bool = False


TRAITS = {
    # All levels alike in speed; one compile for all sizes costs 1.2 to 1.6 times the step, and saves 12 s a size.
    "CPU": DeviceTraits("CPU", "O0", dynamic_shapes=True, native_layers=False, runs_ahead=False),
    # MindSpore 2.10, "jit_level": O0 is the default of GPU. Its kernels take shapes as they come.
    "GPU": DeviceTraits("GPU", "O0", dynamic_shapes=True),
    # MindSpore 2.10: O2 (the graph engine GE) is the default of Atlas training products. GE refuses graphs of dynamic
    # shapes that need a part on the CPU ("does not support subgraph sink and heterogeneous scenarios").
    # `mindspore.amp.all_finite` takes its way for chips that saturate ("amp_loss_scale_train_classic_target"); CANN is
    # given allow_fp32_to_fp16 for it, which computes convolutions in float16.
    "ascend910": DeviceTraits(
        "Ascend 910", "O2", dynamic_shapes=False, saturates=True, float16_convolutions=True, is_ascend=True
    ),
    # MindSpore 2.10: O0 is the default of Atlas A2, must_keep_origin_dtype its precision mode. Dynamic shapes compile,
    # with hundreds of operators computed by the CPU.
    "ascend910b": DeviceTraits("Ascend Atlas A2", "O0", dynamic_shapes=False, is_ascend=True),
    "ascend910_93": DeviceTraits("Ascend Atlas A3", "O0", dynamic_shapes=False, is_ascend=True),
}


def device_traits() -> DeviceTraits:
    """Of the device that MindSpore is set to; a chip that the table lacks is taken for an Atlas A2."""
    target = ms.get_context("device_target")
    if target != "Ascend":
        return TRAITS[target]
    from mindspore._c_expression import MSContext

    # Every Ascend 910 of the first generation is "ascend910" here, whatever letters its full name ends with.
    return TRAITS.get(MSContext.get_instance().get_ascend_soc_version(), TRAITS["ascend910b"])


def uses_dynamic_shapes(cfg: Config) -> bool:
    """Whether one compiled training step serves all shapes."""
    return device_traits().dynamic_shapes if cfg.dynamic_shapes == "auto" else cfg.dynamic_shapes == "on"


def computes_in_float16(cfg: Config) -> bool:
    """Whether some of a training step is computed in float16, so that it needs a loss scale and may overflow."""
    return amp_level(cfg) != "O0" or device_traits().float16_convolutions


def amp_level(cfg: Config) -> str:
    """The level of mixed precision that `amp_level` auto stands for on the device in use, or as it was given."""
    if cfg.amp_level != "auto":
        return cfg.amp_level
    if cfg.quantization_aware:
        # It rounds in float32.
        return "O0"
    return cfg.ascend_amp_level if device_traits().is_ascend else "O0"


def jit_level(cfg: Config) -> str:
    """How graphs are compiled: what `jit_level` auto stands for, or as it was given."""
    if cfg.jit_level != "auto":
        return cfg.jit_level
    # Launched one by one, the operators of a step that rounds are 2.6 times those of a float one (tests/ascend).
    if cfg.quantization_aware and device_traits().is_ascend:
        return "O2"
    return device_traits().jit_level


def launches_each_operator() -> bool:
    """Whether graphs are run on Ascend operator by operator, so that each costs the host a launch."""
    own = device_traits()
    level = ms.context.get_jit_config().get("jit_level", own.jit_level)
    return own.is_ascend and level != "O2"


def configure(cfg: Config) -> None:
    """Gives MindSpore the settings of the device in use. Before the processes of a distributed run have joined."""
    own = device_traits()
    if cfg.deterministic:
        ms.set_deterministic(True)
    if own.name == "CPU":
        return
    ms.set_context(jit_config={"jit_level": jit_level(cfg)})
    if own.name == "GPU":
        ms.device_context.gpu.op_precision.conv_allow_tf32(cfg.allow_hf32)
    elif not own.float16_convolutions:
        ms.device_context.ascend.op_precision.conv_allow_hf32(cfg.allow_hf32)
