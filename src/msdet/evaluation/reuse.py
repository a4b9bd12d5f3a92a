"""Reuse of the detections of an earlier evaluation (`override` off), if they were made from the same inputs.

The inputs (weights, images, thresholds) are recorded next to the result file.
"""

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

DETECTIONS, PROVENANCE = "detections.json", "origin.json"
# Keys that detections depend on besides the card and the options of the post-processing.
_KEYS = (
    "dataset", "testing_shape", "on_bad_image", "max_image_pixels", "multi_label_thresh", "objectness_threshold",
    "amp_level", "device_target",
)  # fmt: skip
_MAX_SHOWN = 60  # characters of a value in a message


def provenance_of(recipe: DetectionRecipe, dataset: DetectionDataset, weights: Path) -> dict[str, Any]:
    """All inputs that detections depend on, by names for messages.

    Args:
        recipe: recipe of the model; its configuration is completed by the card of the weights.
        dataset: the images.
        weights: the checkpoint file.

    Returns:
        JSON values.
    """
    values = recipe.cfg.to_dict()
    card = recipe.card(list(dataset.category_ids))
    provenance = {
        "weights (sha256)": sha256_of(weights),
        "images and annotations (sha256)": fingerprint(dataset),
        "image folder": str(dataset.image_dir.resolve()),
        **{name: value for name, value in card.items() if not isinstance(value, Mapping)},
        **{name: value for part in card.values() if isinstance(part, Mapping) for name, value in part.items()},
        **asdict(recipe.postprocess_options()),
        **{name: values[name] for name in _KEYS if name in values},
    }
    return json.loads(json.dumps(provenance, default=str))


def save_provenance(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Writes the inputs next to the complete detections in a folder."""
    write_json(folder / PROVENANCE, provenance)


def earlier_detections(log_path: Path, provenance: Mapping[str, Any]) -> Path | None:
    """The latest result file in a folder of evaluations that was made from the same inputs; if there are only others,
    logs how the latest one differs.

    Args:
        log_path: contains the folders of evaluations, `eval_*`.
        provenance: the inputs, as `provenance_of` returns them.
    """
    difference = ""
    for folder in sorted(log_path.glob("eval_*"), reverse=True):
        detections = folder / DETECTIONS
        if not detections.is_file():
            continue
        reason = _difference(folder / PROVENANCE, provenance)
        if not reason:
            return detections
        difference = difference or f"{detections}: {reason}"
    if difference:
        log.info("running the network again: the latest detections were made from other inputs. %s", difference)
    return None


def _difference(path: Path, provenance: Mapping[str, Any]) -> str:
    """How the inputs recorded in a file differ; empty if they are the same."""
    if not path.is_file():
        return f"there is no {path.name} with their inputs"
    try:
        recorded = read_json(path)
    except UserError as error:
        return str(error)
    if not isinstance(recorded, dict):
        return f"{path.name} is not a JSON object"
    names = [name for name in {**provenance, **recorded} if provenance.get(name) != recorded.get(name)]
    return "; ".join(f"{name} was {_short(recorded.get(name))}, is {_short(provenance.get(name))}" for name in names)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
