"""User hooks named in a configuration."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from msdet.errors import UsageError
from msdet.training.loop import Hook


def named_hooks(names: Sequence[str], where: str) -> list[Hook]:
    """Creates the hooks named in a configuration, in order.

    Args:
        names: `module.Class` each; modules are searched on the Python path and in the working folder.
        where: name of the key, for messages.

    Raises:
        UsageError: the module or class does not exist, is not a hook, or needs constructor arguments.
    """
    return [_create(name, where) for name in names]


def _create(name: str, where: str) -> Hook:
    module_name, _, class_name = name.rpartition(".")
    if not module_name:
        raise UsageError(f"{where}: {name!r} names no module; write module.Class")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"{where}: there is no module {module_name!r}, neither installed nor in {here}") from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, Hook)):
        raise UsageError(f"{where}: {name} is not a subclass of msdet.training.loop.Hook")
    try:
        return kind()
    except TypeError as error:
        raise UsageError(f"{where}: {name} cannot be created without arguments: {error}") from error
