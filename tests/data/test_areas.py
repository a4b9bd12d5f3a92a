"""Annotated areas."""

import numpy as np
import pytest

from msdet.data.formats.coco.read import read_coco


@pytest.mark.parametrize(
    "area", [float("nan"), float("inf"), "12", None, 10**400, 1.1e10, -1, -1e-9, True, False, [12], {}]
)
def test_unusable_areas_are_unknown(coco, area):
    """Scores by size take width x height then."""
    coco.add_image(1, boxes=[[1, 2, 10, 20]])
    coco.content["annotations"][0]["area"] = area
    assert read_coco(*coco.write()).areas is None
    coco.add_box(1, [3, 2, 12, 22], area=0)
    coco.add_box(1, [3, 3, 12, 22], area=12.5)
    np.testing.assert_array_equal(read_coco(*coco.write()).areas, [np.nan, 0, 12.5])
