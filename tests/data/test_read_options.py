"""Options for building a dataset."""

import pytest

from msdet.data.formats.coco.read import read_coco
from msdet.errors import UsageError


@pytest.mark.parametrize(
    "options", [{"label_map": "sparse"}, {"on_bad_box": "ignore"}, {"class_names": ["cat", "dog", "cat"]}]
)
def test_unknown_values_are_rejected(coco, options):
    coco.add_image(1)
    with pytest.raises(UsageError):
        read_coco(*coco.write(), **options)
