"""What a result file was made from: written beside it, so that detections are not taken for those of another run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.errors import UserError
from msdet.files import read_json, sha256_of, write_json
from msdet.session.datasets import fingerprint

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset
    from msdet.models.recipe import DetectionRecipe

log = logging.getLogger(__name__)

DETECTIONS, ORIGIN = "detections.json", "origin.json"
# Besides what the card and the options of the post-processing say.
_KEYS = (
    "dataset", "testing_shape", "on_bad_image", "max_image_pixels", "multi_label_thresh", "objectness_threshold",
    "amp_level", "device_target",
)  # fmt: skip
_SHOWN = 60


def origin_of(recipe: DetectionRecipe, dataset: DetectionDataset, weights: Path) -> dict[str, Any]:
    """All that detections depend on, by a name that a message can use.

    Args:
        recipe: of the configuration that the weights' card has completed.
        dataset: the images.
        weights: the checkpoint.

    Returns:
        plain values, as JSON gives them back.
    """
    values = recipe.cfg.to_dict()
    card = recipe.card(list(dataset.category_ids))
    origin = {
        "weights (sha256)": sha256_of(weights),
        "images and annotations (sha256)": fingerprint(dataset),
        "image folder": str(dataset.image_dir.resolve()),
        **{name: value for name, value in card.items() if not isinstance(value, Mapping)},
        **{name: value for part in card.values() if isinstance(part, Mapping) for name, value in part.items()},
        **asdict(recipe.postprocess_options()),
        **{name: values[name] for name in _KEYS if name in values},
    }
    return json.loads(json.dumps(origin, default=str))


def save_origin(folder: Path, origin: Mapping[str, Any]) -> None:
    """Writes it beside the detections in a folder, once they are complete."""
    write_json(folder / ORIGIN, origin)


def earlier_detections(log_path: Path, origin: Mapping[str, Any]) -> Path | None:
    """The newest result file below a folder that has this origin; if there are only others, the log says why not.

    Args:
        log_path: holds the folders of evaluations, `eval_*`.
        origin: as `origin_of` gives it.
    """
    refused = ""
    for folder in sorted(log_path.glob("eval_*"), reverse=True):
        detections = folder / DETECTIONS
        if not detections.is_file():
            continue
        reason = _difference(folder / ORIGIN, origin)
        if not reason:
            return detections
        refused = refused or f"{detections}: {reason}"
    if refused:
        log.info("the network runs again: the newest detections were made otherwise. %s", refused)
    return None


def _difference(path: Path, origin: Mapping[str, Any]) -> str:
    """How what a file says differs from an origin; empty if it does not."""
    if not path.is_file():
        return f"no {path.name} beside them says what they were made from"
    try:
        told = read_json(path)
    except UserError as error:
        return str(error)
    if not isinstance(told, dict):
        return f"{path.name} holds no JSON object"
    names = [name for name in {**origin, **told} if origin.get(name) != told.get(name)]
    return "; ".join(f"{name} was {_short(told.get(name))}, is {_short(origin.get(name))}" for name in names)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
