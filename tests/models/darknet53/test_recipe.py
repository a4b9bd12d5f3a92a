"""The recipe of the classifiers: initialisation, loss, augmentation, card."""

import numpy as np
import pytest

from msdet.config import load_config
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.random_crop import CropFlipColour
from msdet.models.recipe import get_recipe

CONFIG = "configs/darknet53_imagenet.yaml"
NARROW = ["--num_classes=5", "--backbone_shape=16,16,16,16,16,16", "--backbone_layers=1,1,1,1,1"]


def recipe_of(*flags):
    return get_recipe(load_config(CONFIG, [*NARROW, *flags]))


@pytest.mark.parametrize(
    ("init", "bound"), [("xavier", np.sqrt(6 / (16 * 9 + 16 * 9))), ("fan_in", 1 / np.sqrt(16 * 9))]
)
def test_initialisation_of_the_kernels(init, bound):
    weight = recipe_of(f"--weight_init={init}").build_network().backbone.stages[2][0].conv.weight.asnumpy()
    assert weight.shape == (16, 16, 3, 3)
    assert 0.95 * bound < np.abs(weight).max() <= bound


def test_label_smoothing():
    assert recipe_of("--label_smooth=1", "--label_smooth_factor=0.2").build_criterion().on == pytest.approx(0.8)
    assert recipe_of("--label_smooth=0", "--label_smooth_factor=0.2").build_criterion().on == 1


def test_augmentation():
    crop = recipe_of("--augment=1", "--crop_area=0.5,1").train_pipeline()
    assert isinstance(crop, CropFlipColour)
    assert isinstance(recipe_of("--augment=0").train_pipeline(), Pipeline)


def test_the_card_has_the_sizes_and_no_entries_of_detectors():
    recipe = recipe_of("--testing_shape=64")
    card = recipe.card([])
    assert card["preprocess"]["resize_px"] == 73 and card["preprocess"]["crop_px"] == 64
    assert not {"category_ids", "label_map"} & card.keys()
    assert recipe.is_class_layer("fc.weight") and not recipe.is_class_layer("backbone.stem.conv.weight")
