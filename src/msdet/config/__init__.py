"""Typed configuration: `load_config(file, flags)` returns a `Config` with the values of all keys."""

from msdet.config.command_line import load_config, parse_command_line
from msdet.config.config import Config, diff_configs, resolve_classes
from msdet.config.key import key

__all__ = ["Config", "diff_configs", "key", "load_config", "parse_command_line", "resolve_classes"]
