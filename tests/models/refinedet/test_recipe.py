"""The recipe of RefineDet: backbones, augmentation and thresholds."""

from msdet.config import load_config
from msdet.models.recipe import get_recipe
from tests.models.refinedet.networks import RESNET, SMALL, TINY, VGG


def test_a_frozen_backbone_is_not_trained():
    cfg = load_config(VGG, [*TINY[VGG], *SMALL, "--freeze_layer=backbone"])
    names = {p.name.split(".")[0] for p in get_recipe(cfg).build_network().trainable_params()}
    assert "backbone" not in names and {"extra", "transfer", "odm_conf"} <= names


def recipe_of(config, *flags):
    return get_recipe(load_config(config, [*TINY[config], *SMALL, *flags]))


def test_vgg16_has_scaled_maps_and_resnet101_batch_norms():
    vgg, resnet = recipe_of(VGG).build_network(), recipe_of(RESNET).build_network()
    assert [float(norm.weight.asnumpy()[0]) for norm in vgg.norms] == [10, 8] and len(resnet.norms) == 0
    assert not vgg.transfer[0].first.has_norm and resnet.transfer[0].first.has_norm


def test_the_canvas_has_the_mean_colour():
    place = recipe_of(VGG, "--mean=0.2,0.4,0.6", "--expand_probability=0.3").train_pipeline().place
    assert place.fill == (51, 102, 153) and place.expand_probability == 0.3


def test_thresholds_and_schedule():
    recipe = recipe_of(VGG, "--nms_top_k=33", "--nms_thresh=0.3", "--objectness_threshold=0.2", "--clip_anchors=1")
    options = recipe.postprocess_options()
    assert (options.pre_nms_top_k_per_class, options.nms_threshold) == (33, 0.3)
    decoder = recipe.build_decoder()
    assert decoder.threshold == 0.2 and decoder.clip
    assert recipe.anchors((64, 64))[:, 2:].max() == 64
