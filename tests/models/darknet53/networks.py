"""Narrow classifiers with random weights, and imports of weights files, for several test files."""

import numpy as np
from mindspore import Tensor

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights
from msdet.config import load_config
from msdet.importers.command import main as import_main
from msdet.models.darknet53.network import BACKBONES, Classifier
from msdet.models.recipe import get_recipe

CONFIGS = {name: f"configs/{name}_imagenet.yaml" for name in BACKBONES}


CHANNELS, LAYERS = (4, 8, 8, 16, 16, 32), (1, 2, 1, 1, 1)


TINY = ["--backbone_shape", "4,8,8,16,16,32", "--backbone_layers", "1,2,1,1,1", "--num_classes", "5"]


def tiny(model):
    """A narrow classifier of five classes with random weights and statistics."""
    activation = {"darknet53": "leaky", "cspdarknet53": "mish"}[model]
    network = Classifier(BACKBONES[model](CHANNELS, LAYERS, activation=activation), 5)
    rng = np.random.default_rng(1)
    for p in network.get_parameters():
        low, high = (0.5, 1.5) if p.name.endswith(("gamma", "moving_variance")) else (-0.5, 0.5)
        p.set_data(Tensor(rng.uniform(low, high, p.shape).astype(np.float32)))
    return network.set_train(False)


def random_images(side=64):
    return np.random.default_rng(2).normal(size=(2, 3, side, side)).astype(np.float32)


def imported(config, tmp_path, source, *flags):
    """The network imported from a file, and its card."""
    output = tmp_path / "out.ckpt"
    assert import_main(["--config", config, "--source", str(source), "--output", str(output), "--quiet", *flags]) == 0
    tensors, card = load_weights(output)
    network = get_recipe(apply_card(load_config(config), card, output, with_classes=True)).build_network()
    fill_network(network, tensors, output)
    return network.set_train(False), card
