"""What the recipes of YOLOv3 and YOLOv4 share: decoder, anchors, augmentation."""

import numpy as np
import pytest

from msdet.config import load_config
from msdet.models.recipe import get_recipe

NARROW = ["--num_classes=3", "--backbone_shape=4,4,4,8,8,8", "--backbone_layers=1,1,1,1,1"]


def recipe_of(model, *flags):
    return get_recipe(load_config(f"configs/{model}.yaml", [*NARROW, *flags]))


@pytest.mark.parametrize(("model", "scales"), [("yolov3", (1, 1, 1)), ("yolov4", (1.05, 1.1, 1.2))])
def test_the_decoder(model, scales):
    decoder = recipe_of(model, "--multi_label=0", "--multi_label_thresh=0.3").build_decoder()
    assert decoder.scales == scales and decoder.num_classes == 3 and decoder.min_class_probability == 0
    assert recipe_of(model, "--multi_label=1", "--multi_label_thresh=0.3").build_decoder().min_class_probability == 0.3


@pytest.mark.parametrize("model", ["yolov3", "yolov4"])
def test_anchor_sizes_and_class_layers(model):
    recipe = recipe_of(model)
    np.testing.assert_array_equal(recipe.anchor_sizes(), recipe.cfg.anchors)
    classes = {
        name for name in (p.name for p in recipe.build_network().get_parameters()) if recipe.is_class_layer(name)
    }
    assert classes == {f"block{s}.predict.{part}" for s in (8, 16, 32) for part in ("weight", "bias")}


@pytest.mark.parametrize("model", ["yolov3", "yolov4"])
def test_augmentation(model):
    augmented = recipe_of(model, "--augment=1", "--jitter=0.2", "--resize=stretch").train_pipeline()
    assert augmented.place.aspect == "network" and augmented.place.jitter == 0.2
    assert recipe_of(model, "--augment=1", "--resize=letterbox").train_pipeline().place.aspect == "image"
    plain = recipe_of(model, "--augment=0")
    assert plain.train_pipeline() == plain.eval_pipeline()
