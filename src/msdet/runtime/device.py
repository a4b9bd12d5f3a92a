"""The table of device properties and the settings derived from it, each with its source.

CPU entries were measured here. Ascend entries are from MindSpore's Ascend code (tests/ascend compile graphs with it and
stubs of CANN) and documentation: nothing was run on a chip. No GPU was used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mindspore as ms

if TYPE_CHECKING:
    from msdet.config import Config


@dataclass(frozen=True)
class DeviceTraits:
    """Properties of a device, and the settings for keys that are `auto`.

    Attributes:
        name: name in messages.
        jit_level: graph compilation: O0 kernel by kernel, O1 with fused kernels, O2 the whole graph.
        dynamic_shapes: whether one compiled step can be used for several image sizes and numbers of boxes.
        saturates: whether an overflow gives the largest number instead of infinity; it is then detected by a status
            register of the chip.
        float16_convolutions: whether float32 convolutions are computed in float16, so that gradients need a loss scale.
        native_layers: whether training uses the device's own operators instead of implementations that are fast on CPU.
        runs_ahead: whether the host launches a step before the previous one has finished; results are read a step late.
        is_ascend: whether it is an Ascend chip.
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
    # All jit levels have the same speed. Dynamic shapes make a step 1.2 to 1.6 times as long, and save 12 s per size.
    "CPU": DeviceTraits("CPU", "O0", dynamic_shapes=True, native_layers=False, runs_ahead=False),
    # MindSpore 2.10, "jit_level": O0 is the default of GPU. Its kernels support dynamic shapes.
    "GPU": DeviceTraits("GPU", "O0", dynamic_shapes=True),
    # MindSpore 2.10: O2 (the graph engine GE) is the default of Atlas training products. GE rejects dynamic-shape
    # graphs that need operators on the CPU ("does not support subgraph sink and heterogeneous scenarios").
    # `mindspore.amp.all_finite` has a branch for chips that saturate ("amp_loss_scale_train_classic_target"); CANN gets
    # allow_fp32_to_fp16 for it, which computes convolutions in float16.
    "ascend910": DeviceTraits(
        "Ascend 910", "O2", dynamic_shapes=False, saturates=True, float16_convolutions=True, is_ascend=True
    ),
    # MindSpore 2.10: O0 is the default of Atlas A2, must_keep_origin_dtype its precision mode. Dynamic shapes compile,
    # but hundreds of operators run on the CPU.
    "ascend910b": DeviceTraits("Ascend Atlas A2", "O0", dynamic_shapes=False, is_ascend=True),
    "ascend910_93": DeviceTraits("Ascend Atlas A3", "O0", dynamic_shapes=False, is_ascend=True),
}


def device_traits() -> DeviceTraits:
    """The traits of the current device; an unknown chip is treated as an Atlas A2."""
    target = ms.get_context("device_target")
    if target != "Ascend":
        return TRAITS[target]
    from mindspore._c_expression import MSContext

    # Every first-generation Ascend 910 is "ascend910" here, whatever the suffix of its full name.
    return TRAITS.get(MSContext.get_instance().get_ascend_soc_version(), TRAITS["ascend910b"])


def uses_dynamic_shapes(cfg: Config) -> bool:
    """Whether one compiled training step is used for all shapes."""
    return device_traits().dynamic_shapes if cfg.dynamic_shapes == "auto" else cfg.dynamic_shapes == "on"


def computes_in_float16(cfg: Config) -> bool:
    """Whether parts of a training step are computed in float16, which needs a loss scale and may overflow."""
    return amp_level(cfg) != "O0" or device_traits().float16_convolutions


def amp_level(cfg: Config) -> str:
    """The level of mixed precision: `amp_level`, with auto resolved for the current device."""
    if cfg.amp_level != "auto":
        return cfg.amp_level
    if cfg.quantization_aware:
        # Fake quantization needs float32.
        return "O0"
    return cfg.ascend_amp_level if device_traits().is_ascend else "O0"


def jit_level(cfg: Config) -> str:
    """The graph compilation level: `jit_level`, with auto resolved for the current device."""
    if cfg.jit_level != "auto":
        return cfg.jit_level
    # A step with fake quantization launches 2.6 times as many operators as a float one (tests/ascend).
    if cfg.quantization_aware and device_traits().is_ascend:
        return "O2"
    return device_traits().jit_level


def launches_each_operator() -> bool:
    """Whether graphs run on Ascend operator by operator, with one launch by the host for each."""
    own = device_traits()
    level = ms.context.get_jit_config().get("jit_level", own.jit_level)
    return own.is_ascend and level != "O2"


def configure(cfg: Config) -> None:
    """Applies the settings of the current device to MindSpore; to be called before distributed initialisation."""
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
