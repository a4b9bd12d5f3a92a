"""Narrow networks of all models, which compile in seconds: tests of all models find each model here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from msdet.config.key import keys_of
from msdet.config.model_table import config_class, model_table

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class NarrowNetwork:
    """A narrow network of a model, with all operators of the full one: it compiles in seconds.

    Attributes:
        model: its name in the model table.
        config: file in configs/, without suffix.
        size: of the square input, in px.
        flags: keys that make the network narrow.
        batch_size: images in a batch.
    """

    model: str
    config: str
    size: int
    flags: tuple[str, ...]
    batch_size: int = 2


def _config_of(model: str) -> str:
    """The file in configs/ that stands for a model: the one with the shortest name."""
    files = (ROOT / "configs").glob("*.yaml")
    found = [file.stem for file in files if re.search(rf"^model: {model}$", file.read_text(), re.MULTILINE)]
    return min(found, key=lambda name: (len(name), name))


def _narrow(model: str, config: str = "", **keys: object) -> NarrowNetwork:
    """The narrow network that the model's configuration declares, with two object classes or three image classes."""
    found = config_class(model)
    values = {**found.NARROW, **keys}
    names = "a,b,c" if model.endswith("darknet53") else "a,b"
    values |= {"num_classes": len(names.split(",")), "class_names": names}
    # Published EfficientDets have an output for each of COCO's ids.
    values |= {"label_map": "dense"} if keys_of(found)["label_map"].default != "dense" else {}
    size = values.pop("testing_shape")
    flags = (f"--{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in values.items())
    return NarrowNetwork(model, config or _config_of(model), size, tuple(flags))


def narrow_networks() -> dict[str, NarrowNetwork]:
    """One for each model of the model table, and for the other networks that a configuration selects."""
    return {
        **{model: _narrow(model) for model in model_table()},
        "yolov3_quant": _narrow("yolov3", "yolov3_quant"),
        "refinedet_resnet101": _narrow(
            "refinedet", "refinedet_resnet101_320", backbone_shape=(8, 8, 8, 8, 8), backbone_layers=(1, 1, 2, 1)
        ),
    }
