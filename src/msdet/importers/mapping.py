"""Maps the values or tensors of a file to the parameters of a network."""

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

# What training saves in a file besides the network: optimiser state, counters.
_OPTIMISER = r"(moments|moment1|moment2|accum|velocity|ema)\..*|((global|current_iterator)_)?(step|epoch_num|step_num)"
_SAVED_BY_TRAINING = rf"{_OPTIMISER}|learning_rate|momentum|loss_scale|scale_sense|.*num_batches_tracked"
_PREFIXES = ("module.", "network.", "yolo_network.", "_backbone.")


@dataclass
class MappedWeights:
    """Result of mapping a file to a network.

    Attributes:
        tensors: parameter of the network -> its values.
        sources: parameter of the network -> its place or name in the file.
        skipped: names in the file that no forward pass uses, or that lie outside the imported part.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def select_part(network: nn.Cell, partial: str) -> nn.Cell:
    """The backbone if `partial` is set, else the whole network."""
    if not partial:
        return network
    if not hasattr(network, "backbone"):
        raise UsageError("--partial backbone: this network has no backbone")
    return network.backbone


def map_darknet(network: nn.Cell, source: DarknetSource, file: DarknetFile, partial: str) -> MappedWeights:
    """Assigns the values of a file to the layers, in the order of the file."""
    layers = list(source.layers(network))
    wanted = layers[: source.backbone_layers] if partial else layers
    names = {id(cell): name for name, cell in network.cells_and_names()}
    mapped = MappedWeights()
    at = 0
    for number, layer in enumerate(wanted):
        name = names[id(layer)]
        if at + number_of_values(layer) > file.values.size:
            lacking = at + number_of_values(layer) - file.values.size
            raise UserError(
                f"{file.path} is too short: {lacking:,} values are missing in layer {number + 1} of {len(wanted)} "
                f"({name}).\nIs it for other classes (--num_classes), of another network, or truncated"
                + ("?" if partial else ", or does it hold only the backbone (--partial backbone)?")
            )
        for parameter in _parameters(layer):
            size = parameter.size
            mapped.tensors[parameter.name] = file.values[at : at + size].reshape(parameter.shape).astype(np.float32)
            mapped.sources[parameter.name] = f"values {at:,} to {at + size - 1:,}"
            at += size
    rest = file.values.size - at
    boundaries = np.cumsum([0, *map(number_of_values, layers[len(wanted) :])])
    if rest not in boundaries:
        raise UserError(
            f"{file.path} is too long: {rest:,} values remain after the last layer. Is it for other classes "
            "(--num_classes) or of another network?"
        )
    beyond = int(np.flatnonzero(boundaries == rest)[0])
    mapped.skipped = [names[id(layer)] for layer in layers[len(wanted) : len(wanted) + beyond]]
    return mapped


def _parameters(layer: nn.Cell) -> list[Any]:
    """Parameters of a layer in the order of darknet."""
    if isinstance(layer, ConvBnAct):
        bn = layer.bn
        return [bn.beta, bn.gamma, bn.moving_mean, bn.moving_variance, layer.conv.weight]
    return [layer.bias, layer.weight]


def number_of_values(layer: nn.Cell) -> int:
    """Number of values that darknet stores for a layer."""
    return sum(parameter.size for parameter in _parameters(layer))


def map_named(
    network: nn.Cell, source: NamedSource, file_tensors: Mapping[str, np.ndarray], path: Path, partial: str
) -> MappedWeights:
    """Assigns the tensors of a file to the parameters, by name."""
    tensors = strip_prefixes(file_tensors, source.prefixes)
    names = dict(source.names(network))
    own = {p.name: p for p in select_part(network, partial).get_parameters()}
    unused = re.compile("|".join(f"(?:{pattern})" for pattern in (*source.unused, _SAVED_BY_TRAINING)))
    mapped, unknown, mismatched = MappedWeights(), [], []
    for name, value in tensors.items():
        target = names.get(name)
        if target is None and unused.fullmatch(name):
            mapped.skipped.append(name)
        elif target is None:
            unknown.append(name)
        elif target not in own:
            mapped.skipped.append(name)
        else:
            converted = source.convert.get(target, np.asarray)(value)
            if tuple(converted.shape) != tuple(own[target].shape) or converted.dtype.kind != "f":
                mismatched.append(
                    f"{name} is {converted.dtype} {tuple(value.shape)}, {target} is {tuple(own[target].shape)}"
                )
            mapped.tensors[target] = np.ascontiguousarray(converted, np.float32)
            mapped.sources[target] = name
    parameters = {p.name for p in network.get_parameters()}
    if not mapped.tensors and (parameters <= tensors.keys() or tensors.keys() <= parameters):
        raise UserError(f"{path} is already a checkpoint of this program and needs no import: use --pretrained")
    missing = [file_name for file_name, target in names.items() if target in own and target not in mapped.tensors]
    unmapped = [name for name in own if name not in names.values()]
    is_backbone_only = all(name.startswith("backbone.") for name in names.values())
    if unmapped and not is_backbone_only:
        raise ValueError(f"layout {source.name} has no name for {first_few(unmapped)}")
    if unmapped and mapped.tensors:
        raise UsageError(f"{path} holds only a backbone (layout {source.name}): add --partial backbone")
    problems = [
        f"{len(items)} {what}: {first_few(items)}"
        for what, items in (
            ("tensors are missing in the file", missing),
            ("tensors of the file belong to no layer", unknown),
            ("have another shape or type", mismatched),
        )
        if items
    ]
    if problems:
        hint = "Is it for other classes (--num_classes), another network, or another --layout?"
        raise UserError(f"{path} does not fit the layout {source.name}. {'; '.join(problems)}.\n{hint}")
    return mapped


def strip_prefixes(tensors: Mapping[str, np.ndarray], prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Removes the prefixes that wrappers add to the names of the network (but not to those of the optimiser)."""
    result = {}
    for name, value in tensors.items():
        short = name
        for prefix in dict.fromkeys((*prefixes, *_PREFIXES)):
            short = short.removeprefix(prefix)
        result[name if short in result else short] = value
    return result


def report_lines(mapped: MappedWeights) -> list[str]:
    """Report of an import: one line per tensor, one for the skipped ones, and the totals."""
    lines = [f"{name} {tuple(value.shape)} <- {mapped.sources[name]}" for name, value in mapped.tensors.items()]
    if mapped.skipped:
        lines.append(
            f"skipped, not used by this part of the network or in another container: {', '.join(mapped.skipped)}"
        )
    values = sum(value.size for value in mapped.tensors.values())
    lines.append(f"{len(mapped.tensors)} tensors, {values:,} values imported; {len(mapped.skipped)} skipped")
    return lines
