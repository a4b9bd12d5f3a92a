"""The recipe of YOLOv3: activation, priors and criterion from the keys."""

import numpy as np

from msdet.config import load_config
from msdet.layers.conv import LeakyReLU
from msdet.models.recipe import get_recipe
from msdet.models.yolov3_quant.loss import YoloV3Criterion

NARROW = ["--num_classes=3", "--backbone_shape=4,4,4,8,8,8", "--backbone_layers=1,1,1,1,1"]


def recipe_of(*flags):
    return get_recipe(load_config("configs/yolov3.yaml", [*NARROW, *flags]))


def test_the_activation_is_that_of_the_backbone_alone():
    network = recipe_of("--activation=relu").build_network()
    assert not isinstance(network.backbone.stem.activation, LeakyReLU)
    assert isinstance(network.lateral16.activation, LeakyReLU)


def test_the_objectness_prior():
    bias = recipe_of("--objectness_prior=0.01").build_network().block8.predict.bias.asnumpy().reshape(3, 8)
    assert (np.abs(bias[:, 4] - np.log(0.01 / 0.99)) < 1).all() and (np.abs(bias[:, 5:]) < 1).all()


def test_the_criterion():
    criterion = recipe_of("--ignore_threshold=0.6", "--label_smooth=1", "--label_smooth_factor=0.1").build_criterion()
    assert isinstance(criterion, YoloV3Criterion) and criterion.ignore_threshold == 0.6
    assert criterion.target_on == 0.9 and criterion.extra_anchor_iou is None
