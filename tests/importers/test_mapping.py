"""Mapping of values and names in files to the parameters of a small network."""

from pathlib import Path

import numpy as np
import pytest
from mindspore import nn

from msdet.errors import UsageError, UserError
from msdet.importers.darknet_file import DarknetFile
from msdet.importers.mapping import (
    map_darknet,
    map_named,
    number_of_values,
    report_lines,
    select_part,
    strip_prefixes,
)
from msdet.layers.conv import ConvBnAct
from msdet.models.weight_names import DarknetSource, NamedSource

PATH = Path("file")


class Network(nn.Cell):
    def __init__(self):
        super().__init__()
        self.backbone = ConvBnAct(1, 2, 1)
        self.fc = nn.Dense(2, 3)


@pytest.fixture
def network():
    return Network()


DARKNET = DarknetSource("darknet", lambda network: [network.backbone, network.fc], backbone_layers=1)
PARAMETERS = ("backbone.conv.weight", "backbone.bn.gamma", "backbone.bn.beta", "backbone.bn.moving_mean",
              "backbone.bn.moving_variance", "fc.weight", "fc.bias")  # fmt: skip
NAMED = NamedSource(
    "named",
    "torch",
    lambda network: {f"their.{name}": name for name in PARAMETERS},
    unused=(r"head\..*",),
    convert={"fc.weight": np.transpose},
)


def darknet(count):
    return DarknetFile(PATH, (0, 2, 5), 0, np.arange(count, dtype=np.float32))


def tensors(network, **changes):
    """A file for `NAMED`, whose dense layers are stored transposed."""
    found = {f"their.{p.name}": np.full(p.shape, i, np.float32) for i, p in enumerate(network.get_parameters())}
    found["their.fc.weight"] = found["their.fc.weight"].T
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


def test_darknet_stores_beta_gamma_mean_variance_kernel_and_bias_before_the_kernel(network):
    assert [number_of_values(cell) for cell in (network.backbone, network.fc)] == [10, 9]
    mapped = map_darknet(network, DARKNET, darknet(19), "")
    first = {name: value.ravel()[0] for name, value in mapped.tensors.items()}
    assert first == {
        "backbone.bn.beta": 0, "backbone.bn.gamma": 2, "backbone.bn.moving_mean": 4, "backbone.bn.moving_variance": 6,
        "backbone.conv.weight": 8, "fc.bias": 10, "fc.weight": 13,
    }  # fmt: skip
    assert mapped.tensors["fc.weight"].shape == (3, 2) and mapped.sources["fc.bias"] == "values 10 to 12"
    assert not mapped.skipped


@pytest.mark.parametrize(("count", "skipped"), [(10, []), (19, ["fc"])])
def test_only_the_backbone_of_a_darknet_file(network, count, skipped):
    mapped = map_darknet(network, DARKNET, darknet(count), "backbone")
    assert all(name.startswith("backbone.") for name in mapped.tensors) and mapped.skipped == skipped


@pytest.mark.parametrize(
    ("count", "partial", "message"),
    [
        (18, "", r"too short: 1 values are missing in layer 2 of 2 \(fc\)(.|\n)*--partial backbone"),
        (9, "backbone", r"too short: 1 values are missing in layer 1 of 1 \(backbone\)"),
        (20, "", "too long: 1 values remain"),
        (12, "backbone", "too long: 2 values remain"),
    ],
)
def test_darknet_files_of_another_size(network, count, partial, message):
    with pytest.raises(UserError, match=message):
        map_darknet(network, DARKNET, darknet(count), partial)


def test_named_tensors_are_converted_and_unused_ones_skipped(network):
    extra = {"head.x": np.zeros(1), "learning_rate": np.zeros(1), "their.bn.num_batches_tracked": np.zeros(1)}
    mapped = map_named(network, NAMED, tensors(network, **extra), PATH, "")
    assert mapped.tensors.keys() == set(PARAMETERS) and mapped.tensors["fc.weight"].shape == (3, 2)
    assert mapped.sources["fc.bias"] == "their.fc.bias" and mapped.skipped == list(extra)
    assert map_named(network, NAMED, tensors(network), PATH, "backbone").skipped == ["their.fc.weight", "their.fc.bias"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"their.fc.bias": None}, "1 tensors are missing in the file: their.fc.bias"),
        ({"other": np.zeros(1)}, "1 tensors of the file belong to no layer: other"),
        ({"their.fc.bias": np.zeros(4, np.float32)}, r"their.fc.bias is float32 \(4,\), fc.bias is \(3,\)"),
        ({"their.fc.bias": np.zeros(3, np.int32)}, r"their.fc.bias is int32"),
    ],
)
def test_named_tensors_that_do_not_fit(network, changes, message):
    with pytest.raises(UserError, match=f"does not fit the layout named.*{message}"):
        map_named(network, NAMED, tensors(network, **changes), PATH, "")


def test_checkpoints_of_this_program_need_no_import(network):
    own = {p.name: p.asnumpy() for p in network.get_parameters()}
    with pytest.raises(UserError, match="needs no import: use --pretrained"):
        map_named(network, NAMED, own, PATH, "")


def test_a_file_of_only_a_backbone_needs_the_flag(network):
    backbone = NamedSource("backbone", "torch", lambda _: {f"their.{n}": n for n in PARAMETERS if n[0] == "b"})
    content = {name: value for name, value in tensors(network).items() if ".backbone." in name}
    with pytest.raises(UsageError, match="holds only a backbone .layout backbone.: add --partial backbone"):
        map_named(network, backbone, content, PATH, "")
    assert len(map_named(network, backbone, content, PATH, "backbone").tensors) == 5


def test_the_part_to_import(network):
    assert select_part(network, "") is network and select_part(network, "backbone") is network.backbone
    with pytest.raises(UsageError, match="has no backbone"):
        select_part(network.fc, "backbone")


def test_prefixes_are_removed_unless_names_would_collide():
    one, two = np.zeros(1), np.ones(1)
    assert strip_prefixes({"module.a": one, "network.b": two, "model.c": one}, ("module.", "model.")).keys() == set(
        "abc"
    )
    assert strip_prefixes({"a": one, "module.a": two}, ("module.",)) == {"a": one, "module.a": two}
    assert strip_prefixes({"moments.module.a": one}, ("module.",)).keys() == {"moments.module.a"}


def test_the_report(network):
    mapped = map_darknet(network, DARKNET, darknet(19), "backbone")
    lines = report_lines(mapped)
    assert lines[0] == "backbone.bn.beta (2,) <- values 0 to 1"
    assert lines[-2].startswith("skipped") and lines[-2].endswith(": fc")
    assert lines[-1] == "5 tensors, 10 values imported; 1 skipped"
