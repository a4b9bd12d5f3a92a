"""Keys of the backbones, for a classifier and a detector."""

import pytest

from msdet.config import load_config
from msdet.errors import UsageError


@pytest.mark.parametrize("config", ["darknet53_imagenet", "yolov4"])
@pytest.mark.parametrize(
    ("flag", "fragment"),
    [
        ("--backbone_shape=4,4,8,8", "backbone_shape.* 4 values; it takes 6"),
        ("--backbone_shape=4,4,8,8,8,9", "backbone_shape.* odd"),
        ("--backbone_layers=1,1", "backbone_layers.* 2 values; it takes 5"),
        ("--padding=valid", "padding"),
        ("--bn_eps=0", "bn_eps"),
    ],
)
def test_invalid_values(config, flag, fragment):
    with pytest.raises(UsageError, match=fragment):
        load_config(f"configs/{config}.yaml", [flag])
