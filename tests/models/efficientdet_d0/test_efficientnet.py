"""The backbone of EfficientDet: drop-connect and squeeze-and-excitation."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn

from msdet.models.efficientdet_d0.efficientnet import DropConnect, EfficientNetB0
from tests.models.efficientdet_d0.networks import tiny

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_the_rate_of_drop_connect():
    x = np.random.default_rng(0).standard_normal((4000, 2, 3, 3)).astype(np.float32)
    layer = DropConnect(0.2).set_train()
    y = layer(Tensor(x)).asnumpy()
    kept = np.abs(y).sum((1, 2, 3)) > 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.8, rtol=1e-5)
    assert abs(kept.mean() - 0.8) < 0.03
    np.testing.assert_array_equal(y, layer(Tensor(x)).asnumpy())
    np.testing.assert_array_equal(layer.set_train(False)(Tensor(x)).asnumpy(), x)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
@pytest.mark.parametrize(("batch", "level"), [(1, "O0"), (3, "O0"), pytest.param(2, "O3", marks=pytest.mark.slow)])
def test_drop_connect_after_a_batch_norm(batch, level, mode):
    """After a batch norm all batches of one image have the same means: the hash must not depend on them alone."""
    rate, repeats = 0.3, 150
    rng = np.random.default_rng(batch)
    ms.set_context(mode=mode)
    norms = [nn.BatchNorm2d(4).set_train() for _ in range(2)]
    layers = [nn.SequentialCell(norm, DropConnect(rate)).set_train() for norm in norms]
    if level != "O0":
        layers = [amp.auto_mixed_precision(layer, level) for layer in layers]
    kept, gains = [], []
    for _ in range(repeats):
        x = rng.standard_normal((batch, 4, 4, 4)).astype(np.float32)
        # A second block sees the same images, with other weights.
        for norm, layer in zip(norms, layers, strict=True):
            out = layer(Tensor(x * (1 + len(gains) % 2))).asnumpy()
            plain = norm(Tensor(x)).asnumpy()
            here = np.abs(out).sum((1, 2, 3)) > 0
            gains += np.abs(out[here]).mean((1, 2, 3)).tolist()
            np.testing.assert_allclose(out[here], plain[here] / (1 - rate), rtol=0.02, atol=0.02)
            kept.append(here)
            x = x + rng.standard_normal(x.shape).astype(np.float32)
    ms.set_context(mode=ms.GRAPH_MODE)
    kept = np.array(kept).reshape(repeats, 2 * batch)
    # Five standard deviations of a proportion.
    deviation = 5 * np.sqrt(rate * (1 - rate) / repeats)
    assert np.abs(kept.mean(0) - (1 - rate)).max() < deviation
    # Choices are uncorrelated between steps, images and blocks.
    together = np.corrcoef(kept.T.astype(float))
    assert np.abs(together[~np.eye(2 * batch, dtype=bool)]).max(initial=0) < 5 / np.sqrt(repeats)
    assert abs(np.mean(kept[1:] == kept[:-1]) - (rate**2 + (1 - rate) ** 2)) < deviation


@pytest.mark.slow
def test_the_rate_of_drop_connect_with_batches_of_one_image():
    """The fraction of kept branches of each block, in the whole network."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = tiny("--drop_connect", "0.5").set_train()
    found = {}

    def make_hook(number):
        def hook(cell, inputs, output):
            found.setdefault(number, []).append(float(np.abs(output.asnumpy()).max()) > 0)

        return hook

    blocks = network.backbone.blocks
    for number, block in enumerate(blocks):
        if block.is_residual and block.drop_connect.rate:
            block.drop_connect.register_forward_hook(make_hook(number))
    rng = np.random.default_rng(0)
    for _ in range(40):
        network.backbone(Tensor(rng.standard_normal((1, 3, 128, 128)).astype(np.float32)))
    ms.set_context(mode=ms.GRAPH_MODE)
    assert len(found) >= 2
    for number, kept in found.items():
        rate = blocks[number].drop_connect.rate
        assert abs(np.mean(kept) - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 40)


def test_equal_images_of_a_batch_are_dropped_independently():
    x = np.tile(np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32), (2000, 1, 1, 1))
    kept = np.abs(DropConnect(0.3).set_train()(Tensor(x)).asnumpy()).sum((1, 2, 3)) > 0
    assert abs(kept.mean() - 0.7) < 0.05


def test_the_rate_of_drop_connect_increases_with_depth():
    blocks = EfficientNetB0(drop_connect=0.2).blocks
    assert [block.drop_connect.rate for block in blocks] == pytest.approx([0.2 * i / 16 for i in range(16)])
    assert [i for i, block in enumerate(blocks) if block.is_residual] == [2, 4, 6, 7, 9, 10, 12, 13, 14]
