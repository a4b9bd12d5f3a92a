"""When an exported file counts as doing what its checkpoint does."""

import numpy as np
import pytest

from src.deploy.verify import compare_outputs
from src.errors import UserError

OURS = [np.array([[3.0, 4.0]], np.float32), np.array([1.0, 0.0], np.float32)]


def test_errors_are_relative_to_the_length_of_an_output():
    theirs = [OURS[0] + np.array([[0.0, 0.05]], np.float32), OURS[1]]
    np.testing.assert_allclose(compare_outputs(OURS, theirs, 0.011), (0.01, 0), rtol=1e-4)
    with pytest.raises(UserError, match=r"output 0 .* differs from the checkpoint by 1.0e-02 .*9e-03 are allowed"):
        compare_outputs(OURS, theirs, 0.009)


def test_no_tolerance_asks_for_equal_bits():
    assert compare_outputs(OURS, [array.copy() for array in OURS], 0) == (0, 0)
    with pytest.raises(UserError, match="output 1 of the exported file differs"):
        compare_outputs(OURS, [OURS[0], np.nextafter(OURS[1], np.float32(2))], 0)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ([OURS[0]], "it was not kept"),
        ([OURS[0], OURS[1][:1]], "it was not kept"),
        ([OURS[0], np.array([np.nan, 0], np.float32)], "output 1 is not finite"),
        ([OURS[0] * np.inf, OURS[1]], "output 0 is not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(theirs, message):
    with pytest.raises(UserError, match=message):
        compare_outputs(OURS, theirs, 1.0)
