"""From a file of another program to a checkpoint of this one, with its card."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from mindspore import nn

from src.common.class_lists import published_classes
from src.common.files import sha256_of
from src.common.layers import ConvBnAct
from src.common.listing import some_of
from src.engine.weights_file import fill_network, load_tensors, load_weights, save_weights
from src.errors import UsageError, UserError
from src.recipe import get_recipe, task_of
from src.weights.darknet_file import DarknetFile, read_bytes, read_darknet
from src.weights.sources import DarknetSource, NamedSource
from src.weights.torch_file import read_safetensors, read_torch

if TYPE_CHECKING:
    from src.config import Config
    from src.recipe import DetectionRecipe

log = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound="Config")

# What training leaves in a file beside the network: the optimiser's state, counters.
_OPTIMISER = r"(moments|moment1|moment2|accum|velocity|ema)\..*|((global|current_iterator)_)?(step|epoch_num|step_num)"
_LEFT_BY_TRAINING = rf"{_OPTIMISER}|learning_rate|momentum|loss_scale|scale_sense|.*num_batches_tracked"
_PREFIXES = ("module.", "network.", "yolo_network.", "_backbone.")


@dataclass
class Mapped:
    """What an import did.

    Attributes:
        tensors: parameter of the network -> its values.
        origin: parameter of the network -> where in the file it came from.
        left_out: names of the file that no forward pass uses, or that lie outside the part that was asked for.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def import_weights(
    cfg: Config, source: Path, output: Path, layout: str = "", partial: str = "", container: str = ""
) -> Mapped:
    """Reads a file of another program and writes it as a checkpoint with its card.

    Args:
        cfg: the model and its classes; keys that belong to the weights (mean, std, activation ...) come from the
            layout.
        source: .weights, .pth, .pt, .safetensors or .ckpt; told apart by content.
        output: the checkpoint, ending in .ckpt.
        layout: name of one of the recipe's sources; empty: the one whose names fit.
        partial: "backbone" takes only the backbone; else empty.
        container: of a .pth with several dictionaries of tensors, the key of the one to take.

    Raises:
        UserError: a tensor is missing, left over or of another shape, a number is not finite, the file is damaged or of
            an unknown kind.
        UsageError: an argument is wrong, or the configuration contradicts the layout.
    """
    if output.suffix != ".ckpt":
        raise UsageError(f"--output is {output}: a checkpoint's name ends in .ckpt")
    if partial not in ("", "backbone"):
        raise UsageError(f"--partial is {partial!r}: only 'backbone' can be taken alone")
    others: list[str] = []
    kind, content = _read(source, container, others)
    chosen = _choose(get_recipe(cfg), kind, content, source, layout)
    cfg = _with_classes(_with_settings(cfg, chosen.settings, chosen.name))
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    if isinstance(chosen, DarknetSource):
        mapped = _map_darknet(network, chosen, content, partial)
    else:
        mapped = _map_named(network, chosen, content, source, partial)
    mapped.left_out += others
    wanted = _part(network, partial)
    fill_network(wanted, mapped.tensors, source)
    _check_finite(mapped, source)
    _, category_ids = published_classes(cfg.num_classes, cfg.label_map)
    is_dense = cfg.label_map == "dense"
    card = recipe.card(list(category_ids if is_dense and category_ids else range(1, cfg.num_classes + 1)))
    card["source"] = {"file": source.name, "sha256": sha256_of(source), "layout": chosen.name}
    card["part"] = partial or "whole"
    save_weights(output, mapped.tensors, card)
    _verify(output, mapped)
    return mapped


def _read(source: Path, container: str, others: list[str]) -> tuple[str, Any]:
    """The kind of file, by content, and what it holds."""
    start = read_bytes(source)[:16]
    if not start:
        raise UserError(f"{source} is empty")
    is_torch = source.suffix != ".safetensors" and (start[:2] == b"PK" or start[:1] == b"\x80")
    if container and not is_torch:
        raise UsageError(f"--container {container}: only .pth files hold several dictionaries; {source} is none")
    if source.suffix == ".safetensors":
        return "torch", read_safetensors(source)
    if is_torch:
        return "torch", read_torch(source, container, others)
    if source.suffix == ".ckpt":
        return "mindspore", load_tensors(source)
    if source.suffix in (".pth", ".pt", ".bin"):
        raise UserError(f"{source} is no PyTorch file: it is neither a zip archive nor a pickle")
    return "darknet", read_darknet(source)


def _choose(
    recipe: DetectionRecipe, container: str, content: Any, source: Path, layout: str
) -> DarknetSource | NamedSource:
    """The recipe's source that the file belongs to."""
    sources = list(recipe.weight_sources())
    known = {s.name: s for s in sources}
    if layout and layout not in known:
        raise UsageError(f"--layout is {layout!r}; {recipe.cfg.model} knows {', '.join(known) or 'none'}")
    fitting = [s for s in sources if _container(s) == container]
    if layout and known[layout] not in fitting:
        raise UsageError(f"--layout {layout} is for {_container(known[layout])} files; {source} is a {container} file")
    if not fitting:
        kinds = ", ".join(dict.fromkeys(_container(s) for s in sources)) or "none"
        raise UserError(f"{source} is a {container} file; {recipe.cfg.model} reads {kinds} files")
    if layout:
        chosen = known[layout]
    elif len(fitting) == 1 and not fitting_refusal(fitting):
        chosen = fitting[0]
    elif container == "darknet":
        chosen = _best_darknet(recipe, fitting, content)
    else:
        chosen = _best_named(recipe, fitting, content)
    if isinstance(chosen, NamedSource) and chosen.refusal:
        raise UserError(f"{source} cannot be used: {chosen.refusal}")
    return chosen


def fitting_refusal(sources: Sequence[DarknetSource | NamedSource]) -> bool:
    """Whether one of the sources is there only to be refused."""
    return any(isinstance(s, NamedSource) and s.refusal for s in sources)


def _container(source: DarknetSource | NamedSource) -> str:
    return "darknet" if isinstance(source, DarknetSource) else source.container


def _best_darknet(recipe: DetectionRecipe, sources: Sequence[DarknetSource], content: DarknetFile) -> DarknetSource:
    network = recipe.build_network()
    return min(sources, key=lambda s: abs(sum(map(_size, s.layers(network))) - content.values.size))


def _best_named(
    recipe: DetectionRecipe, sources: Sequence[NamedSource], content: Mapping[str, np.ndarray]
) -> NamedSource:
    network = recipe.build_network()

    def fit(source: NamedSource) -> float:
        names = set(_stripped(content, source.strip))
        if source.signature and source.signature in names | content.keys():
            return len(names) + 1
        return 0 if source.refusal else len(names & source.names(network).keys())

    return max(sources, key=fit)


def _with_settings(cfg: ConfigT, settings: Mapping[str, Any], layout: str) -> ConfigT:
    """The configuration with the keys that the weights want; one that was set otherwise is an error."""
    values = cfg.replace(**settings)
    for name in settings:
        if name in cfg.places and getattr(cfg, name) != getattr(values, name):
            raise UsageError(
                f"{cfg.where(name)} is {getattr(cfg, name)}, but weights of the layout {layout} need "
                f"{getattr(values, name)}: leave the key out"
            )
    return values


def _with_classes(cfg: ConfigT) -> ConfigT:
    """Names for weights of a public dataset, where the configuration gives none."""
    if cfg.class_names or not cfg.num_classes or task_of(cfg) != "detect":
        return cfg
    names, _ = published_classes(cfg.num_classes, cfg.label_map)
    if names:
        log.info(
            "%d classes: taken to be those of the public dataset with so many; else give --class_names", len(names)
        )
    return cfg.replace(class_names=list(names)) if names else cfg


def _part(network: nn.Cell, partial: str) -> nn.Cell:
    if not partial:
        return network
    if not hasattr(network, "backbone"):
        raise UsageError("--partial backbone: this network has no backbone of its own")
    return network.backbone


def _map_darknet(network: nn.Cell, source: DarknetSource, file: DarknetFile, partial: str) -> Mapped:
    """Gives each layer its numbers, in the order of the file."""
    layers = list(source.layers(network))
    wanted = layers[: source.backbone_layers] if partial else layers
    names = {id(cell): name for name, cell in network.cells_and_names()}
    mapped = Mapped()
    at = 0
    for number, layer in enumerate(wanted):
        name = names[id(layer)]
        if at + _size(layer) > file.values.size:
            lacking = at + _size(layer) - file.values.size
            raise UserError(
                f"{file.path} is too short: {lacking:,} numbers are missing in layer {number + 1} of {len(wanted)} "
                f"({name}).\nIs it for other classes (--num_classes), of another network, or cut short"
                + ("?" if partial else ", or does it hold the backbone alone (--partial backbone)?")
            )
        for parameter in _parameters(layer):
            size = parameter.size
            mapped.tensors[parameter.name] = file.values[at : at + size].reshape(parameter.shape).astype(np.float32)
            mapped.origin[parameter.name] = f"numbers {at:,} to {at + size - 1:,}"
            at += size
    rest = file.values.size - at
    boundaries = np.cumsum([0, *map(_size, layers[len(wanted) :])])
    if rest not in boundaries:
        raise UserError(
            f"{file.path} is too long: {rest:,} numbers are left over after the last layer. Is it for other classes "
            "(--num_classes) or of another network?"
        )
    beyond = int(np.flatnonzero(boundaries == rest)[0])
    mapped.left_out = [names[id(layer)] for layer in layers[len(wanted) : len(wanted) + beyond]]
    return mapped


def _parameters(layer: nn.Cell) -> list[Any]:
    """A layer's parameters in darknet's order."""
    if isinstance(layer, ConvBnAct):
        bn = layer.bn
        return [bn.beta, bn.gamma, bn.moving_mean, bn.moving_variance, layer.conv.weight]
    return [layer.bias, layer.weight]


def _size(layer: nn.Cell) -> int:
    return sum(parameter.size for parameter in _parameters(layer))


def _map_named(
    network: nn.Cell, source: NamedSource, content: Mapping[str, np.ndarray], path: Path, partial: str
) -> Mapped:
    """Gives each parameter the tensor of its name in the file."""
    tensors = _stripped(content, source.strip)
    names = dict(source.names(network))
    own = {p.name: p for p in _part(network, partial).get_parameters()}
    dead = re.compile("|".join(f"(?:{pattern})" for pattern in (*source.dead, _LEFT_BY_TRAINING)))
    mapped, unknown, misshapen = Mapped(), [], []
    for name, value in tensors.items():
        target = names.get(name)
        if target is None and dead.fullmatch(name):
            mapped.left_out.append(name)
        elif target is None:
            unknown.append(name)
        elif target not in own:
            mapped.left_out.append(name)
        else:
            converted = source.convert.get(target, np.asarray)(value)
            if tuple(converted.shape) != tuple(own[target].shape) or converted.dtype.kind != "f":
                misshapen.append(
                    f"{name} is {converted.dtype} {tuple(value.shape)}, {target} is {tuple(own[target].shape)}"
                )
            mapped.tensors[target] = np.ascontiguousarray(converted, np.float32)
            mapped.origin[target] = name
    missing = [file_name for file_name, target in names.items() if target in own and target not in mapped.tensors]
    unmapped = [name for name in own if name not in names.values()]
    if unmapped:
        raise ValueError(f"layout {source.name} names no source for {some_of(unmapped)}")
    problems = [
        f"{len(items)} {what}: {some_of(items)}"
        for what, items in (
            ("tensors are missing in the file", missing),
            ("tensors of the file belong to no layer", unknown),
            ("have another shape or type", misshapen),
        )
        if items
    ]
    if problems:
        hint = "Is it for other classes (--num_classes), another network, or another --layout?"
        raise UserError(f"{path} does not fit the layout {source.name}. {'; '.join(problems)}.\n{hint}")
    return mapped


def _stripped(content: Mapping[str, np.ndarray], prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Takes off prefixes that wrappers put before the names of the network (not before those of the optimiser)."""
    result = {}
    for name, value in content.items():
        short = name
        for prefix in dict.fromkeys((*prefixes, *_PREFIXES)):
            short = short.removeprefix(prefix)
        result[name if short in result else short] = value
    return result


def _check_finite(mapped: Mapped, source: Path) -> None:
    broken = [
        f"{name} ({mapped.origin[name]})" for name, value in mapped.tensors.items() if not np.isfinite(value).all()
    ]
    if broken:
        raise UserError(
            f"{source} holds numbers that are not finite, in {some_of(broken)}: it is damaged, of another network, or "
            "its training has diverged"
        )


def _verify(output: Path, mapped: Mapped) -> None:
    """Reads the checkpoint back."""
    tensors, _ = load_weights(output)
    different = [name for name, value in mapped.tensors.items() if not np.array_equal(tensors[name], value)]
    if different:
        raise UserError(f"{output} differs from what was written, in {some_of(different)}: is the disk broken?")


def describe(mapped: Mapped) -> list[str]:
    """One line a tensor, and one for all that was left out."""
    lines = [f"{name} {tuple(value.shape)} <- {mapped.origin[name]}" for name, value in mapped.tensors.items()]
    if mapped.left_out:
        lines.append(
            f"left out, since no layer of this part uses them or of a container not taken: {', '.join(mapped.left_out)}"
        )
    numbers = sum(value.size for value in mapped.tensors.values())
    lines.append(f"{len(mapped.tensors)} tensors, {numbers:,} numbers mapped; {len(mapped.left_out)} left out")
    return lines
