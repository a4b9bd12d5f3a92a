"""The table of commands and the console command."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from msdet.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_the_function_of_a_command_exists(name):
    """Without importing it, which would load MindSpore."""
    module, _, function = COMMANDS[name].target.partition(":")
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def test_help_lists_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["msdet", "--help"])
    assert main() == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and command.help in text for name, command in COMMANDS.items())


def test_an_unknown_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["msdet", "trian"])
    assert main() == 2
    assert "unknown command 'trian'" in capsys.readouterr().err
