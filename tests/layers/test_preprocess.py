"""Normalisation against numpy."""

import numpy as np
import pytest
from mindspore import Tensor

from msdet.layers.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_images_are_transposed_and_normalised():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    cell = Preprocess(mean, std)
    found = cell(Tensor(images)).asnumpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # The valid sizes are accepted but not used.
    np.testing.assert_array_equal(cell(Tensor(images), Tensor(np.int32([[2, 2], [4, 6]]))).asnumpy(), found)
    assert not cell.uses_valid_sizes
