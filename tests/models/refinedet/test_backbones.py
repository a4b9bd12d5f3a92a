"""The backbones of RefineDet: number of parameters, strides and channels."""

import numpy as np
import pytest
from mindspore import Tensor

from msdet.config import load_config
from msdet.models.recipe import get_recipe
from msdet.models.refinedet.backbones import ResNet101, Vgg16
from tests.models.refinedet.networks import RESNET


def test_the_number_of_parameters_of_resnet101():
    """The classifier of torchvision has 44,549,160, of which 2,049,000 in its last layer."""
    backbone = ResNet101()
    assert sum(p.size for p in backbone.trainable_params()) == 44_549_160 - 2_049_000
    network = get_recipe(load_config(RESNET, ["--num_classes", "80"])).build_network()
    assert sum(p.size for p in network.trainable_params()) == 61_991_044


def test_the_number_of_parameters_of_vgg16():
    """14,714,688 of the convolutions in torchvision, and fc6 and fc7 as convolutions."""
    backbone = Vgg16()
    dense = 512 * 1024 * 9 + 1024 + 1024 * 1024 + 1024
    assert sum(p.size for p in backbone.trainable_params()) == 14_714_688 + dense


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [(Vgg16, (8, 8, 8, 16, 24, 32)), (ResNet101, (8, 2, 4, 6, 8))],
    ids=["vgg16", "resnet101"],
)
def test_maps_of_strides_8_16_32(uncompiled, backbone, channels):
    layers = (1, 1, 1, 2, 2) if backbone is Vgg16 else (1, 1, 2, 1)
    network = backbone(channels, layers).set_train(False)
    maps = network(Tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)))
    assert [m.shape[2:] for m in maps] == [(8, 12), (4, 6), (2, 3)]
    assert tuple(m.shape[1] for m in maps) == network.out_channels


def test_the_first_pool_of_resnet_pads_at_the_top_left(uncompiled):
    """As torchvision, whose padding at the other sides is never used at an even size."""
    network = ResNet101((4, 2, 2, 2, 2), (1, 1, 1, 1))
    x = np.abs(np.random.default_rng(0).standard_normal((1, 4, 6, 8))).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.stack(
        [[padded[0, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2)) for c in range(4)] for r in range(3)]
    )
    np.testing.assert_array_equal(network.pool(network.pad(Tensor(x))).asnumpy()[0], expected.transpose(2, 0, 1))
