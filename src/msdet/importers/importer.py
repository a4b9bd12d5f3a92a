"""From a file of another program to a checkpoint of this one, with its card."""

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
from msdet.importers.mapping import Mapped, map_darknet, map_named, part_of, size_of, stripped
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
    if kind == "mindspore":
        reject_old_checkpoint(source, content, cfg.model)
    cfg = _in_floats(cfg)
    chosen = _choose(get_recipe(cfg), kind, content, source, layout)
    cfg = _with_classes(_with_settings(cfg, chosen.settings, chosen.name))
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    if isinstance(chosen, DarknetSource):
        mapped = map_darknet(network, chosen, content, partial)
    else:
        mapped = map_named(network, chosen, content, source, partial)
    mapped.left_out += others
    wanted = part_of(network, partial)
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


def _in_floats(cfg: ConfigT) -> ConfigT:
    """The configuration of the float network, which files of other programs hold and training for int8 starts from."""
    return cfg.replace(quantization_aware=False) if getattr(cfg, "quantization_aware", False) else cfg


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
        hint = ". A checkpoint of this program is given to --pretrained as it is" if container == "mindspore" else ""
        raise UserError(f"{source} is a {container} file; {recipe.cfg.model} reads {kinds} files{hint}")
    if layout:
        return known[layout]
    if len(fitting) == 1:
        return fitting[0]
    if container == "darknet":
        return _best_darknet(recipe, [s for s in fitting if isinstance(s, DarknetSource)], content)
    return _best_named(recipe, [s for s in fitting if isinstance(s, NamedSource)], content)


def _container(source: DarknetSource | NamedSource) -> str:
    return "darknet" if isinstance(source, DarknetSource) else source.container


def _best_darknet(recipe: DetectionRecipe, sources: Sequence[DarknetSource], content: DarknetFile) -> DarknetSource:
    network = recipe.build_network()
    return min(sources, key=lambda s: abs(sum(map(size_of, s.layers(network))) - content.values.size))


def _best_named(
    recipe: DetectionRecipe, sources: Sequence[NamedSource], content: Mapping[str, np.ndarray]
) -> NamedSource:
    network = recipe.build_network()
    return max(sources, key=lambda s: len(stripped(content, s.strip).keys() & s.names(network).keys()))


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


def _check_finite(mapped: Mapped, source: Path) -> None:
    broken = [
        f"{name} ({mapped.origin[name]})" for name, value in mapped.tensors.items() if not np.isfinite(value).all()
    ]
    if broken:
        raise UserError(
            f"{source} holds values that are not finite, in {first_few(broken)}: it is damaged, of another network, or "
            "its training has diverged"
        )


def _verify(output: Path, mapped: Mapped) -> None:
    """Reads the checkpoint back."""
    tensors, _ = load_weights(output)
    different = [name for name, value in mapped.tensors.items() if not np.array_equal(tensors[name], value)]
    if different:
        raise UserError(f"{output} differs from what was written, in {first_few(different)}: is the disk broken?")
