"""Names and order of the tensors of YOLOv3 in files of other programs."""

import pytest

from msdet.layers.conv import ConvBnAct
from msdet.models.darknet53.network import DarkNet53
from msdet.models.yolov3_quant.network import YoloV3
from msdet.models.yolov3_quant.weight_names import SOURCES


@pytest.fixture(scope="module")
def network():
    return YoloV3(DarkNet53((4, 4, 8, 8, 8, 16), (1, 2, 8, 8, 4)), 2)


def test_the_order_of_darknet(network):
    """The 52 convolutions of the backbone first, then head, lateral, head, lateral, head."""
    source = SOURCES[0]
    layers = list(source.layers(network))
    names = {id(cell): name for name, cell in network.cells_and_names()}
    assert source.backbone_layers == 52 and len(layers) == 75
    assert all(names[id(layer)].startswith("backbone.") for layer in layers[:52])
    rest = [names[id(layer)] for layer in layers[52:]]
    assert rest[:7] == [*(f"block32.trunk.{i}" for i in range(5)), "block32.expand", "block32.predict"]
    assert (rest[7], rest[15]) == ("lateral16", "lateral8") and rest[-1] == "block8.predict"
    assert [i for i, layer in enumerate(layers) if not isinstance(layer, ConvBnAct)] == [58, 66, 74]


def test_every_parameter_has_a_name_in_the_old_zoo(network):
    names = SOURCES[1].names(network)
    assert sorted(names.values()) == sorted(p.name for p in network.get_parameters())
    assert names["feature_map.backblock1.conv6.bias"] == "block16.predict.bias"
    assert names["feature_map.conv2.1.gamma"] == "lateral8.bn.gamma"
    assert names["feature_map.backbone.layer3.7.conv2.0.weight"] == "backbone.stages.2.8.expand.conv.weight"
