"""Keys that choose the network."""

from __future__ import annotations

from dataclasses import dataclass

from msdet.config.key import key


@dataclass(frozen=True)
class ModelKeys:
    """Model"""

    model: str = key("", "model name; set by the config file")
