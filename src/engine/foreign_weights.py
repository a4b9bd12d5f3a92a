"""Checkpoints of the old model zoo that are given where those of this one belong: recognised by the names in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mindspore import nn

from src.engine.weights_file import fill_network
from src.errors import UserError
from src.recipe import get_recipe

if TYPE_CHECKING:
    from src.config import Config
    from src.recipe import Recipe

# Parameters of the observers of mindspore.compression.quant, which MindSpore 2 no longer has.
_OLD_OBSERVER = re.compile(r".*fake_quant.*\.(minq|maxq|quant_min|quant_max)|.*\.(minq|maxq)")
OLD_QUANTIZED = (
    "it was trained for int8 by MindSpore 1's mindspore.compression.quant, whose observers and folded batch norms "
    "compute otherwise. Import the float checkpoint that it was trained from, and train that for int8: "
    "configs/yolov3_quant.yaml with --pretrained"
)
_PREFIXES = ("module.", "network.", "yolo_network.", "_backbone.")


def is_old_quantized(names: Mapping[str, object]) -> bool:
    """Whether the names of a file are those of a network quantized by MindSpore 1."""
    return any(_OLD_OBSERVER.fullmatch(name) for name in names)


def fill_from_file(
    network: nn.Cell, recipe: Recipe, tensors: Mapping[str, np.ndarray], source: Path, hint: str
) -> None:
    """As `fill_network`; a file of the old zoo is answered with the command that imports it.

    Args:
        network: to be filled.
        recipe: of its model, which knows how other programs name its tensors.
        tensors: content of the file.
        source: the file.
        hint: for files that are none of the old zoo.

    Raises:
        UserError: a tensor is missing, left over or of another shape.
    """
    try:
        fill_network(network, tensors, source, hint)
    except UserError:
        message = _message(recipe, tensors, source)
        if not message:
            raise
        raise UserError(message) from None


def _message(recipe: Recipe, tensors: Mapping[str, np.ndarray], source: Path) -> str:
    """What to do with a file of the old zoo; "" if it is none."""
    is_old = f"{source} is a checkpoint of MindSpore's old model zoo"
    if is_old_quantized(tensors):
        return f"{is_old} that cannot be used: {OLD_QUANTIZED}"
    cfg = recipe.cfg
    if getattr(cfg, "quantization_aware", False):
        # A file of the old zoo is a float network's.
        recipe = get_recipe(cfg.replace(quantization_aware=False))
    for layout in recipe.weight_sources():
        if getattr(layout, "container", "") != "mindspore":
            continue
        bare = without_wrappers(tensors, layout.strip).keys()
        network = recipe.build_network()
        if layout.refusal and not bare & {p.name for p in network.get_parameters()}:
            return f"{source} does not fit the network. If it comes from MindSpore's old model zoo: {layout.refusal}."
        known = layout.names(network).keys()
        if known and 2 * len(known & bare) > len(known):
            target = f"{source.stem}_imported.ckpt"
            command = f"python -m src.weights --config {_config_of(cfg)} --source {source} --output {target}"
            return f"{is_old}: import it by `{command}`, and give {target}"
    return ""


def without_wrappers(content: Mapping[str, np.ndarray], prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Takes off prefixes that wrappers put before the names of the network (not before those of the optimiser)."""
    result: dict[str, np.ndarray] = {}
    for name, value in content.items():
        short = name
        for prefix in dict.fromkeys((*prefixes, *_PREFIXES)):
            short = short.removeprefix(prefix)
        result[name if short in result else short] = value
    return result


def _config_of(cfg: Config) -> str:
    """The file that a configuration comes from, as far as its keys tell."""
    files = [place.rpartition(":")[0] for place in cfg.places.values() if not place.startswith("--")]
    return files[-1] if files else "configs/NAME.yaml"
