"""What all recipes share: lookup by model, cards, fake quantization, defaults of detectors."""

import numpy as np
import pytest
from mindspore import Tensor

from msdet.config import load_config
from msdet.config.model_table import model_table
from msdet.errors import UsageError
from msdet.models.recipe import ClassificationRecipe, DetectionRecipe, get_recipe, task_of
from msdet.quantization.quantize import FakeQuantConv

NARROW = ["--num_classes=2", "--backbone_shape=4,4,8,8,8,8", "--backbone_layers=1,1,1,1,1"]


def yolov3(*flags):
    return get_recipe(load_config("configs/yolov3.yaml", [*NARROW, *flags]))


@pytest.mark.parametrize("config", ["yolov3", "yolov4", "efficientdet_d0", "refinedet_vgg16_320"])
def test_detectors(config):
    cfg = load_config(f"configs/{config}.yaml")
    assert task_of(cfg) == "detect" and isinstance(get_recipe(cfg), DetectionRecipe)


@pytest.mark.parametrize("config", ["darknet53_imagenet", "cspdarknet53_imagenet"])
def test_classifiers(config):
    cfg = load_config(f"configs/{config}.yaml")
    assert task_of(cfg) == "classify" and isinstance(get_recipe(cfg), ClassificationRecipe)


def test_an_unknown_model():
    class Unknown:
        model = "yolov9"

    with pytest.raises(UsageError, match="yolov9"):
        get_recipe(Unknown())
    assert "yolov9" not in model_table()


def test_the_card_describes_weights_and_preprocessing():
    recipe = yolov3("--class_names=cat,dog", "--resize=stretch")
    card = recipe.card([7, 9])
    assert card["class_names"] == ["cat", "dog"] and card["category_ids"] == [7, 9] and card["num_classes"] == 2
    assert card["preprocess"]["resize"] == "stretch" and card["preprocess"]["channel_order"] == "RGB"
    assert set(card["network"]) == set(recipe.NETWORK_KEYS)
    assert "quantization" not in card


def test_quantization_aware_networks_have_fake_quantization():
    assert not [cell for _, cell in yolov3().build_network().cells_and_names() if isinstance(cell, FakeQuantConv)]
    recipe = yolov3("--quantization_aware=1")
    assert [cell for _, cell in recipe.build_network().cells_and_names() if isinstance(cell, FakeQuantConv)]
    assert recipe.card([1, 2])["quantization"]["quantization_aware"] is True


def test_defaults_of_detectors():
    recipe = yolov3("--nms_thresh=0.3", "--max_detections=7", "--eval_ignore_threshold=0.2", "--resize=letterbox")
    options = recipe.postprocess_options()
    assert (options.nms_threshold, options.max_detections, options.score_threshold) == (0.3, 7, 0.2)
    assert recipe.test_options() == options
    assert recipe.eval_pipeline().place.mode == "letterbox"
    assert recipe.mosaic() is None and recipe.anchors((64, 64)) is None


def test_the_preprocessing_uses_mean_and_std():
    preprocess = yolov3("--mean=0.5,0.5,0.5", "--std=0.25,0.25,0.25").build_preprocess()
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    np.testing.assert_allclose(preprocess(Tensor(images)).asnumpy(), 2, rtol=1e-6)
