"""Keys that choose the network."""

from __future__ import annotations

from dataclasses import dataclass

from msdet.config.key import key


@dataclass(frozen=True)
class ModelKeys:
    """Model"""

    model: str = key("", "which network; a config file sets it")
