"""The loader that yields ids and geometry without reading images."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from msdet.data.transforms.resize import plan_resize
from msdet.errors import UserError
from msdet.inference.imageless_loader import ImagelessLoader, imageless_detection_loader


def test_every_image_once_in_order():
    loader = ImagelessLoader(["b", 7, "a"])
    batches = list(loader.epoch(0))
    assert loader.steps_per_epoch == 3
    assert [(batch.indices.tolist(), batch.image_ids, batch.geometry) for batch in batches] == [
        ([0], ["b"], []), ([1], [7], []), ([2], ["a"], []),
    ]  # fmt: skip


def test_geometry_from_the_sizes_of_the_annotations():
    place = SimpleNamespace(plan=lambda width, height, size: plan_resize(width, height, size, "letterbox"))
    samples = [
        SimpleNamespace(image_id=1, width=100, height=50, image_path=Path("a.jpg")),
        SimpleNamespace(image_id=2, width=0, height=0, image_path=Path("b.jpg")),
    ]
    dataset = SimpleNamespace(samples=samples, ann_file="val.json")
    batches = imageless_detection_loader(dataset, place, (64, 64)).epoch(0)
    (geometry,) = next(batches).geometry
    assert (geometry.orig_w, geometry.orig_h) == (100, 50)
    with pytest.raises(UserError, match=r"val\.json does not have the size of b\.jpg"):
        next(batches)
