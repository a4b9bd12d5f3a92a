"""The recipe of EfficientDet: augmentation and thresholds."""

import numpy as np

from msdet.config import load_config
from msdet.data.transforms.pipeline import Pipeline
from msdet.data.transforms.scale_jitter import ScaleJitter
from msdet.models.recipe import get_recipe


def test_flipped_images_stay_at_the_top_left():
    recipe = get_recipe(load_config("configs/efficientdet_d0_seed.yaml", ["--flip_probability", "1"]))
    pipeline = recipe.train_pipeline()
    assert isinstance(pipeline, Pipeline) and not pipeline.after
    image = np.zeros((100, 50, 3), np.uint8)
    image[:, :10] = 255
    box = np.float32([[0, 0, 10, 100]])
    canvas = np.full((128, 128, 3), 7, np.uint8)
    rng = np.random.default_rng(0)
    boxes, _, geometry = pipeline((image.copy(), box, np.int32([0])), canvas, rng)
    assert geometry.valid_size == (128, 64)
    np.testing.assert_allclose(boxes, [[40 * 1.28, 0, 64, 128]])
    assert canvas[64, 60].tolist() == [255, 255, 255] and canvas[64, 5].tolist() == [0, 0, 0]


def recipe_of(*flags):
    return get_recipe(load_config("configs/efficientdet_d0.yaml", list(flags)))


def test_random_scaling_is_used_unless_the_range_is_one():
    assert isinstance(recipe_of("--jitter_scale=0.5,2").train_pipeline().place, ScaleJitter)
    fixed = recipe_of("--jitter_scale=1,1", "--flip_probability=0")
    assert fixed.train_pipeline() == fixed.eval_pipeline()


def test_the_threshold_of_several_classes():
    assert recipe_of("--multi_label=1", "--multi_label_thresh=0.2").postprocess_options().multi_label_thresh == 0.2
    assert recipe_of("--multi_label=0", "--multi_label_thresh=0.2").postprocess_options().multi_label_thresh == 0


def test_the_card_has_no_padding_value():
    """Padding is 0 after the normalisation."""
    card = recipe_of("--class_names=").card(list(range(1, 91)))
    assert "pad_value" not in card["preprocess"] and card["preprocess"]["resize"] == "letterbox_top_left"
