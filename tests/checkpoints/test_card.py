"""Cards applied to a configuration, where data and weights number the classes differently."""

from pathlib import Path

import numpy as np
import pytest

from msdet.checkpoints.card import apply_card, output_class_names
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


def applied(*flags):
    return apply_card(load_config("configs/efficientdet_d0.yaml", list(flags)), CARD, Path("w.ckpt"), with_classes=True)


def test_output_class_names():
    assert output_class_names(CARD) == ["cat", "(2 is unused)", "(3 is unused)", "dog"]
    assert output_class_names({**CARD, "label_map": "dense"}) == ["cat", "dog"]
    assert output_class_names({**CARD, "category_ids": [1, 5]}) == []
    assert output_class_names({"label_map": "coco_id_minus_1", "num_classes": 90, "class_names": []}) == []


def test_dense_matches_the_classes_of_weights_and_data_by_name(tmp_path):
    """Data with ids from 0, in another order: labels are outputs of the network, category ids those of the data."""
    cfg = applied("--label_map", "dense", "--num_classes", "0")
    assert cfg.label_map == "dense"
    options = ReadOptions(cfg.class_names, label_map=cfg.label_map, check_images=False)
    dataset = build_dataset(content(tmp_path, {"dog": 0, "cat": 1}), options)
    assert dataset.class_names == ["cat", "(2 is unused)", "(3 is unused)", "dog"]
    np.testing.assert_array_equal(dataset.samples[0].labels, [3, 0])
    assert (dataset.category_ids[3], dataset.category_ids[0]) == (0, 1)
    assert len(set(dataset.category_ids)) == 4


def test_the_message_for_ids_from_zero_gives_the_remedy(tmp_path):
    options = ReadOptions(label_map="coco_id_minus_1", num_classes=4, check_images=False)
    with pytest.raises(UserError, match="'dog' has id 0: .* --label_map dense accepts any id .* by name"):
        build_dataset(content(tmp_path, {"dog": 0, "cat": 1}), options)


def test_another_label_map_than_in_the_card_is_rejected_without_class_names():
    card = {**CARD}
    del card["class_names"]
    cfg = load_config("configs/efficientdet_d0.yaml", ["--label_map", "dense"])
    with pytest.raises(UsageError, match="label_map is dense, but the weights"):
        apply_card(cfg, card, Path("w.ckpt"), with_classes=True)
