"""The specification of an exported file."""

import numpy as np
import pytest

from msdet.export.spec import ExportSpec


@pytest.mark.parametrize("spec", [ExportSpec((64, 96), 2, True, True, True), ExportSpec((320, 320), 0, False, False)])
def test_the_sidecar_reads_back_to_the_same(spec):
    assert ExportSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "values", [{}, {"size": 3}, {**ExportSpec((64, 64), 1, True, True).to_dict(), "size": ["a", 1]}]
)
def test_invalid_content(values):
    with pytest.raises((KeyError, TypeError, ValueError)):
        ExportSpec.from_dict(values)


def test_inputs():
    images, valid = np.zeros((2, 64, 96, 3), np.uint8), np.zeros((2, 2), np.int32)
    normalised = np.zeros((2, 3, 64, 96), np.float32)
    specs = {
        ExportSpec((64, 96), 2, False, True): [normalised],
        ExportSpec((64, 96), 2, True, True): [images],
        ExportSpec((64, 96), 2, True, True, valid_sizes=True): [images, valid],
    }
    for spec, expected in specs.items():
        inputs = spec.inputs(images, valid, normalised)
        assert all(mine is other for mine, other in zip(inputs, expected, strict=True))
        assert [shape for _, shape, _ in spec.input_specs()] == [array.shape for array in expected]
    assert ExportSpec((64, 96), 0, True, True).input_specs()[0][1] == (None, 64, 96, 3)
