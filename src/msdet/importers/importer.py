"""Imports a weights file of another program as a checkpoint with its card."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from msdet.checkpoints.weights_file import fill_network, load_tensors, load_weights, save_weights
from msdet.compat.checkpoints import reject_old_checkpoint
from msdet.data.class_lists import published_classes
from msdet.errors import UsageError, UserError
from msdet.files import sha256_of
from msdet.importers.darknet_file import DarknetFile, read_bytes, read_darknet
from msdet.importers.mapping import MappedWeights, map_darknet, map_named, number_of_values, select_part, strip_prefixes
from msdet.importers.torch_file import read_safetensors, read_torch
from msdet.models.recipe import get_recipe, task_of
from msdet.models.weight_names import DarknetSource, NamedSource
from msdet.text import first_few

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.models.recipe import DetectionRecipe

log = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound="Config")


def import_weights(
    cfg: Config, source: Path, output: Path, layout: str = "", partial: str = "", container: str = ""
) -> MappedWeights:
    """Reads a file of another program and writes it as a checkpoint with its card.

    Args:
        cfg: the model and its classes; keys that belong to the weights (mean, std, activation, ...) are taken from the
            layout.
        source: .weights, .pth, .pt, .safetensors or .ckpt.
        output: the checkpoint, ending in .ckpt.
        layout: name of one of the weight sources of the recipe; empty: the one that matches best.
        partial: "backbone" to import only the backbone; else empty.
        container: key of the dictionary of tensors to import if a .pth file holds several; empty: the usual one.

    Raises:
        UserError: a tensor is missing, unknown or of another shape, a value is not finite, or the file is damaged or of
            an unknown format.
        UsageError: an argument is wrong, or the configuration contradicts the layout.
    """
    if output.suffix != ".ckpt":
        raise UsageError(f"--output is {output}: the name of a checkpoint ends in .ckpt")
    if partial not in ("", "backbone"):
        raise UsageError(f"--partial is {partial!r}: only 'backbone' can be imported alone")
    others: list[str] = []
    file_format, data = _read(source, container, others)
    if file_format == "mindspore":
        reject_old_checkpoint(source, data, cfg.model)
    cfg = _without_quantization(cfg)
    chosen = _choose(get_recipe(cfg), file_format, data, source, layout)
    cfg = _with_classes(_with_settings(cfg, chosen.settings, chosen.name))
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    if isinstance(chosen, DarknetSource):
        mapped = map_darknet(network, chosen, data, partial)
    else:
        mapped = map_named(network, chosen, data, source, partial)
    mapped.skipped += others
    wanted = select_part(network, partial)
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


def _without_quantization(cfg: ConfigT) -> ConfigT:
    """The configuration of the float network: imported weights are for it, even if int8 training starts from them."""
    return cfg.replace(quantization_aware=False) if getattr(cfg, "quantization_aware", False) else cfg


def _read(source: Path, container: str, others: list[str]) -> tuple[str, Any]:
    """Format of the file (torch, mindspore or darknet), detected from content and suffix, and its tensors."""
    header = read_bytes(source)[:16]
    if not header:
        raise UserError(f"{source} is empty")
    is_torch = source.suffix != ".safetensors" and (header[:2] == b"PK" or header[:1] == b"\x80")
    if container and not is_torch:
        raise UsageError(f"--container {container}: only .pth files hold several dictionaries, and {source} is not one")
    if source.suffix == ".safetensors":
        return "torch", read_safetensors(source)
    if is_torch:
        return "torch", read_torch(source, container, others)
    if source.suffix == ".ckpt":
        return "mindspore", load_tensors(source)
    if source.suffix in (".pth", ".pt", ".bin"):
        raise UserError(f"{source} is not a PyTorch file: it is neither a zip archive nor a pickle")
    return "darknet", read_darknet(source)


def _choose(
    recipe: DetectionRecipe, file_format: str, data: Any, source: Path, layout: str
) -> DarknetSource | NamedSource:
    """The weight source of the recipe that describes the file."""
    sources = list(recipe.weight_sources())
    known = {s.name: s for s in sources}
    if layout and layout not in known:
        raise UsageError(f"--layout is {layout!r}; {recipe.cfg.model} has {', '.join(known) or 'none'}")
    fitting = [s for s in sources if _format_of(s) == file_format]
    if layout and known[layout] not in fitting:
        raise UsageError(
            f"--layout {layout} is for {_format_of(known[layout])} files; {source} is a {file_format} file"
        )
    if not fitting:
        formats = ", ".join(dict.fromkeys(_format_of(s) for s in sources)) or "none"
        hint = ". Checkpoints of this program need no import: use --pretrained" if file_format == "mindspore" else ""
        raise UserError(f"{source} is a {file_format} file; {recipe.cfg.model} imports {formats} files{hint}")
    if layout:
        return known[layout]
    if len(fitting) == 1:
        return fitting[0]
    if file_format == "darknet":
        return _best_darknet(recipe, [s for s in fitting if isinstance(s, DarknetSource)], data)
    return _best_named(recipe, [s for s in fitting if isinstance(s, NamedSource)], data)


def _format_of(source: DarknetSource | NamedSource) -> str:
    return "darknet" if isinstance(source, DarknetSource) else source.file_format


def _best_darknet(recipe: DetectionRecipe, sources: Sequence[DarknetSource], file: DarknetFile) -> DarknetSource:
    network = recipe.build_network()
    return min(sources, key=lambda s: abs(sum(map(number_of_values, s.layers(network))) - file.values.size))


def _best_named(
    recipe: DetectionRecipe, sources: Sequence[NamedSource], tensors: Mapping[str, np.ndarray]
) -> NamedSource:
    network = recipe.build_network()
    return max(sources, key=lambda s: len(strip_prefixes(tensors, s.prefixes).keys() & s.names(network).keys()))


def _with_settings(cfg: ConfigT, settings: Mapping[str, Any], layout: str) -> ConfigT:
    """The configuration with the settings that the weights need; a key set to another value is an error."""
    values = cfg.replace(**settings)
    for name in settings:
        if name in cfg.places and getattr(cfg, name) != getattr(values, name):
            raise UsageError(
                f"{cfg.where(name)} is {getattr(cfg, name)}, but weights of the layout {layout} need "
                f"{getattr(values, name)}: remove the key"
            )
    return values


def _with_classes(cfg: ConfigT) -> ConfigT:
    """Adds the class names of a public dataset with this number of classes if the configuration gives none."""
    if cfg.class_names or not cfg.num_classes or task_of(cfg) != "detect":
        return cfg
    names, _ = published_classes(cfg.num_classes, cfg.label_map)
    if names:
        log.info(
            "%d classes: assumed to be those of the public dataset with this number; set --class_names otherwise",
            len(names),
        )
    return cfg.replace(class_names=list(names)) if names else cfg


def _check_finite(mapped: MappedWeights, source: Path) -> None:
    not_finite = [
        f"{name} ({mapped.sources[name]})" for name, value in mapped.tensors.items() if not np.isfinite(value).all()
    ]
    if not_finite:
        raise UserError(
            f"{source} holds values that are not finite, in {first_few(not_finite)}: it is damaged, belongs to another "
            "network, or its training diverged"
        )


def _verify(output: Path, mapped: MappedWeights) -> None:
    """Reads the checkpoint back and compares it."""
    tensors, _ = load_weights(output)
    different = [name for name, value in mapped.tensors.items() if not np.array_equal(tensors[name], value)]
    if different:
        raise UserError(f"{output} differs from what was written, in {first_few(different)}: check the disk")
