"""The table of models and their packages."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msdet.errors import UsageError

if TYPE_CHECKING:
    from msdet.config.config import Config

# A model package is imported only when a configuration selects it: a slow or failing import affects no other model.
_PACKAGES = {
    "yolov3": "msdet.models.yolov3_quant",
    "yolov4": "msdet.models.yolov4",
    "efficientdet_d0": "msdet.models.efficientdet_d0",
    "refinedet": "msdet.models.refinedet",
    "darknet53": "msdet.models.darknet53",
    "cspdarknet53": "msdet.models.darknet53",
}


def model_table() -> dict[str, str]:
    """Model name, as in `model:` of a config file -> package."""
    return dict(_PACKAGES)


def package_of(model: str) -> str:
    """The package of a model.

    Raises:
        UsageError: if there is no such model.
    """
    if model not in _PACKAGES:
        near = difflib.get_close_matches(model, _PACKAGES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the models are {', '.join(_PACKAGES)}"
        raise UsageError(f"unknown model {model!r}; {hint}")
    return _PACKAGES[model]


def config_class(model: str) -> type[Config]:
    """The configuration class of a model: `MODEL_CONFIG` in `config.py` of its package; by name if it has several.

    Raises:
        UsageError: if there is no such model.
    """
    found = importlib.import_module(f"{package_of(model)}.config").MODEL_CONFIG
    return found[model] if isinstance(found, Mapping) else found
