"""When an exported file counts as doing what its checkpoint does."""

import numpy as np
import pytest

from msdet.errors import UserError
from msdet.export.verify import compare_boxes, compare_outputs

OURS = [np.array([[3.0, 4.0]], np.float32), np.array([1.0, 0.0], np.float32)]


def test_errors_are_relative_to_the_length_of_an_output():
    theirs = [OURS[0] + np.array([[0.0, 0.05]], np.float32), OURS[1]]
    np.testing.assert_allclose(compare_outputs(OURS, theirs, 0.011), (0.01, 0), rtol=1e-4)
    with pytest.raises(UserError, match=r"output 0 .* differs from the checkpoint by 1.0e-02 .*more than 9e-03"):
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


def candidates(*scores):
    """Boxes (1, K, 4) apart from each other and scores (1, K, 1)."""
    corner = np.arange(len(scores), dtype=np.float32)[:, None] * 10
    boxes = np.concatenate([corner, corner, corner + 9, corner + 9], axis=1)
    return [boxes[None], np.float32(scores)[None, :, None]]


def test_boxes_one_to_one():
    ours, theirs = candidates(0.9, 0.5, 0.1), candidates(0.9, 0.5004, 0.1)
    theirs[0][0, 1, 2] += 0.03
    theirs[0][0, 2] += 7  # no candidate: its box does not matter
    count, corner, score, alone = compare_boxes(ours, theirs, 0.3, (64, 64))
    assert (count, alone) == (2, 0)
    assert corner == pytest.approx(0.03, abs=1e-5) and score == pytest.approx(0.0004, abs=1e-6)


@pytest.mark.parametrize("swap", [False, True])
def test_an_object_that_one_side_alone_finds_is_another(swap):
    sides = candidates(0.9, 0.5), candidates(0.9, 0.2)
    with pytest.raises(UserError, match="detect different objects"):
        compare_boxes(*(reversed(sides) if swap else sides), 0.3, (64, 64))


def test_at_the_threshold_a_rounding_decides():
    count, _, _, alone = compare_boxes(candidates(0.9, 0.3004), candidates(0.9, 0.2996), 0.3, (64, 64))
    assert (count, alone) == (1, 1)


@pytest.mark.parametrize(("place", "change"), [((0, 0, 1), 0.06), ((1, 0, 0), 0.002)])
def test_boxes_and_scores_that_differ_too_much(place, change):
    ours, theirs = candidates(0.9, 0.5), candidates(0.9, 0.5)
    part, *index = place
    theirs[part][tuple(index)] += change
    with pytest.raises(UserError, match="differ from the checkpoint's"):
        compare_boxes(ours, theirs, 0.3, (64, 64))


def test_what_lies_outside_of_the_input_is_not_compared():
    ours, theirs = candidates(0.9, 0.5), candidates(0.9, 0.5)
    theirs[0][0, 0, :2] -= 30
    assert compare_boxes(ours, theirs, 0.3, (64, 64))[1] == 0
