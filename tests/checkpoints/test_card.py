"""Classes of weights and of data that number them in another way."""

from pathlib import Path

import numpy as np
import pytest

from msdet.checkpoints.card import apply_card, names_of_outputs
from msdet.config import load_config
from msdet.data.annotations import BoxEntry, Category, ImageEntry, RawAnnotations
from msdet.data.build_dataset import build_dataset
from msdet.data.read_options import ReadOptions
from msdet.errors import UsageError, UserError

pytestmark = pytest.mark.usefixtures("at_root")
CARD = {
    "model": "efficientdet_d0", "label_map": "coco_id_minus_1", "num_classes": 4,
    "class_names": ["cat", "dog"], "category_ids": [1, 4],
}  # fmt: skip


def content(tmp_path, categories):
    images = [ImageEntry(1, "a.jpg", 64, 48)]
    boxes = [BoxEntry(i, 1, id_, [1, 2, 10, 12]) for i, id_ in enumerate(categories.values(), 1)]
    named = [Category(id_, name) for name, id_ in categories.items()]
    return RawAnnotations(tmp_path / "val.json", tmp_path, images, boxes, named)


def followed(*flags):
    return apply_card(load_config("configs/efficientdet_d0.yaml", list(flags)), CARD, Path("w.ckpt"), with_classes=True)


def test_names_of_outputs():
    assert names_of_outputs(CARD) == ["cat", "(2 is unused)", "(3 is unused)", "dog"]
    assert names_of_outputs({**CARD, "label_map": "dense"}) == ["cat", "dog"]
    assert names_of_outputs({**CARD, "category_ids": [1, 5]}) == []
    assert names_of_outputs({"label_map": "coco_id_minus_1", "num_classes": 90, "class_names": []}) == []


def test_dense_matches_the_classes_of_weights_and_data_by_their_names(tmp_path):
    """Data that count from 0, in another order: labels are the outputs of the weights, ids those of the data."""
    cfg = followed("--label_map", "dense", "--num_classes", "0")
    assert cfg.label_map == "dense"
    options = ReadOptions(cfg.class_names, label_map=cfg.label_map, check_images=False)
    dataset = build_dataset(content(tmp_path, {"dog": 0, "cat": 1}), options)
    assert dataset.class_names == ["cat", "(2 is unused)", "(3 is unused)", "dog"]
    np.testing.assert_array_equal(dataset.samples[0].labels, [3, 0])
    assert (dataset.category_ids[3], dataset.category_ids[0]) == (0, 1)
    assert len(set(dataset.category_ids)) == 4


def test_ids_from_zero_name_the_way(tmp_path):
    options = ReadOptions(label_map="coco_id_minus_1", num_classes=4, check_images=False)
    with pytest.raises(UserError, match="'dog' has id 0: .* --label_map dense accepts any id .* by name"):
        build_dataset(content(tmp_path, {"dog": 0, "cat": 1}), options)


def test_another_numbering_than_the_cards_is_refused_where_names_are_missing():
    card = {**CARD}
    del card["class_names"]
    cfg = load_config("configs/efficientdet_d0.yaml", ["--label_map", "dense"])
    with pytest.raises(UsageError, match="label_map is dense, but the weights"):
        apply_card(cfg, card, Path("w.ckpt"), with_classes=True)
