"""Which number or tensor of a file becomes which parameter of a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from msdet.errors import UsageError, UserError
from msdet.importers.darknet_file import DarknetFile
from msdet.layers.conv import ConvBnAct
from msdet.models.weight_names import DarknetSource, NamedSource
from msdet.text import first_few

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


def part_of(network: nn.Cell, partial: str) -> nn.Cell:
    if not partial:
        return network
    if not hasattr(network, "backbone"):
        raise UsageError("--partial backbone: this network has no backbone of its own")
    return network.backbone


def map_darknet(network: nn.Cell, source: DarknetSource, file: DarknetFile, partial: str) -> Mapped:
    """Gives each layer its numbers, in the order of the file."""
    layers = list(source.layers(network))
    wanted = layers[: source.backbone_layers] if partial else layers
    names = {id(cell): name for name, cell in network.cells_and_names()}
    mapped = Mapped()
    at = 0
    for number, layer in enumerate(wanted):
        name = names[id(layer)]
        if at + size_of(layer) > file.values.size:
            lacking = at + size_of(layer) - file.values.size
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
    boundaries = np.cumsum([0, *map(size_of, layers[len(wanted) :])])
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


def size_of(layer: nn.Cell) -> int:
    return sum(parameter.size for parameter in _parameters(layer))


def map_named(
    network: nn.Cell, source: NamedSource, content: Mapping[str, np.ndarray], path: Path, partial: str
) -> Mapped:
    """Gives each parameter the tensor of its name in the file."""
    tensors = stripped(content, source.strip)
    names = dict(source.names(network))
    own = {p.name: p for p in part_of(network, partial).get_parameters()}
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
    here = {p.name for p in network.get_parameters()}
    if not mapped.tensors and (here <= tensors.keys() or tensors.keys() <= here):
        raise UserError(f"{path} is a checkpoint of this program already: give it to --pretrained as it is")
    missing = [file_name for file_name, target in names.items() if target in own and target not in mapped.tensors]
    unmapped = [name for name in own if name not in names.values()]
    has_backbone_alone = all(name.startswith("backbone.") for name in names.values())
    if unmapped and not has_backbone_alone:
        raise ValueError(f"layout {source.name} names no source for {first_few(unmapped)}")
    if unmapped and mapped.tensors:
        raise UsageError(f"{path} holds a backbone alone (layout {source.name}): add --partial backbone")
    problems = [
        f"{len(items)} {what}: {first_few(items)}"
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


def stripped(content: Mapping[str, np.ndarray], prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Takes off prefixes that wrappers put before the names of the network (not before those of the optimiser)."""
    result = {}
    for name, value in content.items():
        short = name
        for prefix in dict.fromkeys((*prefixes, *_PREFIXES)):
            short = short.removeprefix(prefix)
        result[name if short in result else short] = value
    return result


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
