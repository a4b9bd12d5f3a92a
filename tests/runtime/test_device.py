"""What a device is told, from the keys to MindSpore; which settings follow from a chip."""

import mindspore as ms
import pytest
from mindspore._c_expression import MSContext

from msdet.config import load_config
from msdet.errors import UserError
from msdet.runtime import device
from msdet.runtime.device import (
    TRAITS,
    amp_level,
    computes_in_float16,
    configure,
    device_traits,
    jit_level,
    uses_dynamic_shapes,
)
from msdet.runtime.start import start

pytestmark = pytest.mark.usefixtures("at_root")


def config(*flags):
    return load_config("configs/yolov4.yaml", flags)


@pytest.fixture
def told(monkeypatch):
    """What MindSpore is told, in the place of telling it."""
    heard = {}
    monkeypatch.setattr(ms, "set_context", lambda **settings: heard.update(settings))
    monkeypatch.setattr(ms, "set_deterministic", lambda value: heard.update(deterministic=value))
    precision = ms.device_context.ascend.op_precision, ms.device_context.gpu.op_precision
    monkeypatch.setattr(precision[0], "conv_allow_hf32", lambda value: heard.update(hf32=value))
    monkeypatch.setattr(precision[1], "conv_allow_tf32", lambda value: heard.update(tf32=value))
    return heard


def use(monkeypatch, name):
    monkeypatch.setattr(device, "device_traits", lambda: TRAITS[name])


def test_this_machine_is_a_cpu_and_is_told_nothing(told):
    assert device_traits() is TRAITS["CPU"]
    configure(config("--jit_level=O2", "--allow_hf32=0"))
    assert not told
    configure(config("--deterministic=1"))
    assert told == {"deterministic": True}


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("ascend910", [], {"jit_config": {"jit_level": "O2"}}),
        # It has no HF32: its convolutions are in float16.
        ("ascend910", ["--jit_level=O0", "--allow_hf32=0"], {"jit_config": {"jit_level": "O0"}}),
        ("ascend910b", [], {"jit_config": {"jit_level": "O0"}, "hf32": True}),
        ("ascend910b", ["--jit_level=O2", "--allow_hf32=0"], {"jit_config": {"jit_level": "O2"}, "hf32": False}),
        ("ascend910_93", ["--deterministic=1"],
         {"deterministic": True, "jit_config": {"jit_level": "O0"}, "hf32": True}),
        ("GPU", ["--allow_hf32=0"], {"jit_config": {"jit_level": "O0"}, "tf32": False}),
    ],
)  # fmt: skip
def test_what_each_device_is_told(monkeypatch, told, name, flags, expected):
    use(monkeypatch, name)
    configure(config(*flags))
    assert told == expected


@pytest.mark.parametrize(
    ("version", "name"),
    [("ascend910", "ascend910"), ("ascend910b", "ascend910b"), ("ascend910_93", "ascend910_93"),
     ("ascend_of_later", "ascend910b")],
)  # fmt: skip
def test_a_chip_is_known_by_the_name_of_its_family(monkeypatch, version, name):
    monkeypatch.setattr(ms, "get_context", lambda key: "Ascend")
    context = type("Context", (), {"get_ascend_soc_version": lambda self: version})()
    monkeypatch.setattr(MSContext, "get_instance", staticmethod(lambda: context))
    assert device_traits() is TRAITS[name]


@pytest.mark.parametrize(("name", "dynamic", "half"), [("CPU", True, False), ("ascend910", False, True),
                                                       ("ascend910b", False, True)])  # fmt: skip
def test_shapes_and_precision_follow_the_chip_and_give_way_to_the_keys(monkeypatch, name, dynamic, half):
    use(monkeypatch, name)
    assert (uses_dynamic_shapes(config()), computes_in_float16(config())) == (dynamic, half)
    assert computes_in_float16(config("--amp_level=O0")) == (name == "ascend910")
    assert uses_dynamic_shapes(config("--dynamic_shapes=on")) and not uses_dynamic_shapes(
        config("--dynamic_shapes=off")
    )
    assert computes_in_float16(config("--amp_level=O2"))


@pytest.mark.parametrize(
    ("name", "flags", "amp", "jit"),
    [
        ("CPU", (), "O0", "O0"),
        ("GPU", (), "O0", "O0"),
        ("ascend910", (), "O2", "O2"),
        ("ascend910b", (), "O2", "O0"),
        ("ascend910b", ("--ascend_amp_level=O0",), "O0", "O0"),
        ("ascend910b", ("--amp_level=O3", "--jit_level=O1"), "O3", "O1"),
        ("ascend910b", ("--quantization_aware=1", "--pretrained=x.ckpt"), "O0", "O2"),
    ],
)
def test_levels_follow_the_device_and_give_way_to_the_keys(monkeypatch, name, flags, amp, jit):
    """Of a recipe that asks for O2 on Ascend."""
    use(monkeypatch, name)
    cfg = load_config("configs/yolov4.yaml", flags)
    assert (amp_level(cfg), jit_level(cfg)) == (amp, jit)


def test_auto_is_what_the_environment_says_and_a_typed_device_wins(monkeypatch):
    assert start(config()).device == "CPU"
    monkeypatch.setenv("MSDET_DEVICE", "NPU")
    with pytest.raises(UserError, match="device_target NPU is not usable here"):
        start(config())
    assert start(config("--device_target=CPU")).device == "CPU"
