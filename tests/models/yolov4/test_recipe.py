"""The recipe of YOLOv4: thresholds, several classes per box, any input size, mosaics, criterion."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from msdet.config import load_config
from msdet.data.transforms.mosaic import Mosaic
from msdet.evaluation.predictor import PredictCell
from msdet.models.recipe import get_recipe
from msdet.ops.postprocess import postprocess

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "yolov4.yaml"
NARROW = ["--num_classes=3", "--backbone_shape=4,4,4,8,8,8", "--backbone_layers=1,1,1,1,1"]


def recipe_of(*flags, script="eval"):
    return get_recipe(load_config(CONFIG, [*NARROW, *flags], script))


def test_thresholds():
    options = recipe_of().postprocess_options()
    assert (options.nms_type, options.nms_threshold, options.score_threshold) == ("diou", 0.6, 0.001)
    options = recipe_of("--nms_thresh=0.4", "--nms_type=greedy", "--eval_ignore_threshold=0.1").postprocess_options()
    assert (options.nms_type, options.nms_threshold, options.score_threshold) == ("greedy", 0.4, 0.1)
    recipe = recipe_of("--test_nms_thresh=0.45", "--test_ignore_threshold=0.02", script="test")
    assert (recipe.test_options().nms_threshold, recipe.test_options().score_threshold) == (0.45, 0.02)
    assert (recipe.postprocess_options().nms_threshold, recipe.postprocess_options().score_threshold) == (0.6, 0.001)


def test_several_classes_per_box():
    """One cell with an objectness of 1 and two of three classes above 0.2; no object elsewhere."""
    maps = [np.full((1, 24, size, size), -20, np.float32) for size in (2, 4, 8)]
    maps[0][0, :4, 1, 1] = 0
    maps[0][0, 4:8, 1, 1] = [20, 2, 1, -2]
    found = {}
    for multi in (False, True):
        recipe = recipe_of(f"--multi_label={multi}")
        boxes, scores = recipe.build_decoder()(tuple(map(Tensor, maps)), (64, 64))
        found[multi] = postprocess(boxes.asnumpy()[0], scores.asnumpy()[0], recipe.postprocess_options())
    assert found[False].labels.tolist() == [0] and found[True].labels.tolist() == [0, 1]
    assert recipe_of("--multi_label=1", "--multi_label_thresh=0.8").build_decoder().min_class_probability == 0.8
    # scale_x_y does not move the centre of a cell; the first anchor of stride 32 is the seventh.
    np.testing.assert_allclose(found[False].boxes[0], [48 - 71, 48 - 55, 48 + 71, 48 + 55], atol=1e-3)


def test_centres_reach_the_edge_of_their_cell():
    maps = [np.full((1, 24, size, size), -20, np.float32) for size in (2, 4, 8)]
    maps[2][0, :4, 3, 5] = [3.2, -3.2, 0, 0]
    boxes, _ = recipe_of().build_decoder()(tuple(map(Tensor, maps)), (64, 64))
    box = boxes.asnumpy()[0, 3 * (4 + 16) + 3 * 8 + 5]
    sigmoid = 1 / (1 + np.exp(-3.2))
    x, y = (5 + 1.2 * sigmoid - 0.1) * 8, (3 + 1.2 * (1 - sigmoid) - 0.1) * 8
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, [x, y], rtol=1e-5)


def test_any_testing_shape():
    ms.set_context(mode=ms.GRAPH_MODE)
    recipe = recipe_of()
    network = recipe.build_network()
    for size in (64, 96):
        predict = PredictCell(recipe.build_preprocess(), network, recipe.build_decoder(), (size, size)).set_train(False)
        images = Tensor(np.zeros((1, size, size, 3), np.uint8))
        boxes, scores = predict(images, Tensor(np.int32([[size, size]])))
        cells = 3 * sum((size // stride) ** 2 for stride in (8, 16, 32))
        assert boxes.shape == (1, cells, 4) and scores.shape == (1, cells, 3)
        # The size of the largest anchor does not depend on the input size.
        assert np.ptp(boxes.asnumpy()[0, :, ::2], axis=1).max() > 300


def test_biases_of_an_untrained_network_match_the_priors():
    network = recipe_of().build_network()
    for block in (network.block8, network.block16, network.block32):
        bias = block.predict.bias.asnumpy().reshape(3, 8)
        assert (np.abs(bias[:, 4:] - np.log(0.01 / 0.99)) < 1).all() and (np.abs(bias[:, :4]) < 1).all()


def test_the_key_of_mosaics():
    assert recipe_of(script="train").mosaic() is None
    recipe = recipe_of("--mosaic=1", "--mosaic_probability=0.7", script="train")
    assert recipe.mosaic() == Mosaic(0.7) and len(recipe.train_pipeline().after) == 2
    assert recipe_of("--mosaic=1", "--augment=0", script="train").mosaic() == Mosaic(0.5)


def test_the_keys_of_the_criterion():
    criterion = recipe_of(
        "--iou_loss=diou", "--bbox_class_loss_coff=7,0.5,2", "--detect_head_loss_coff=1,0.5,0.25", "--label_smooth=1",
        "--ignore_threshold=0.6", script="train",
    ).build_criterion()  # fmt: skip
    assert criterion.iou_loss == "diou" and criterion.coefficients == (7, 0.5, 2)
    assert criterion.map_coefficients == (1, 0.5, 0.25) and criterion.ignore_threshold == 0.6
    assert criterion.target_on == pytest.approx(0.9) and criterion.extra_anchor_iou == 0.213
    assert isinstance(criterion, nn.Cell)
