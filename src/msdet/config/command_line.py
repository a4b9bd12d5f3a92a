"""Builds a configuration: defaults, overridden by a YAML file and its bases, overridden by command-line flags.

cfg = load_config("configs/yolov3.yaml", ["--lr=0.01"])
"""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from msdet.compat.aliases import file_aliases, flag_aliases
from msdet.compat.old_values import old_value_names, rewrite_value
from msdet.config.config import Config
from msdet.config.key import NONE_WORDS, Key, keys_of
from msdet.config.model_table import config_class, model_table
from msdet.config.yaml_file import Setting, config_folder, find_config, read_layers
from msdet.errors import UsageError

# Flags of other frameworks -> the corresponding key, suggested for an unknown flag.
_OTHER_FRAMEWORKS = {
    "learning_rate": "lr",
    "epochs": "max_epoch",
    "batch": "per_batch_size",
    "batch_size": "per_batch_size",
    "imgsz": "testing_shape",
    "img_size": "testing_shape",
    "input_size": "testing_shape",
    "device": "device_target",
    "gpus": "device_id",
    "weights": "pretrained",
    "checkpoint": "pretrained",
    "ckpt": "pretrained",
    "output_dir": "ckpt_path",
    "work_dir": "ckpt_path",
    "project": "ckpt_path",
    "name": "run_name",
    "num_workers": "num_parallel_workers",
    "score_threshold": "eval_ignore_threshold",
    "conf": "eval_ignore_threshold",
    "conf_thres": "eval_ignore_threshold",
    "iou": "nms_thresh",
    "iou_thres": "nms_thresh",
    "max_det": "max_detections",
    "wd": "weight_decay",
    "amp": "amp_level",
    "fp16": "amp_level",
    "ema": "ema_decay",
    "grad_clip": "clip_grad_norm",
    "format": "file_format",
}
# Flags of other frameworks without a corresponding key -> what to do instead.
_ADVICE = {
    "optimizer": "the optimizer is SGD with momentum; see --momentum and --weight_decay",
    "patience": "there is no early stopping; --run_eval True keeps the best weights, --max_epoch sets the length",
}
# The key, and its name in the config file of the old classifiers.
_MODEL_NAMES = ("model", "net")


def load_config(path: str | Path, overrides: Sequence[str] = (), script: str = "train") -> Config:
    """Reads a config file.

    Args:
        path: YAML file.
        overrides: flags as on the command line, e.g. `["--lr=0.01", "--training_shape", "416"]`.
        script: the command whose old flag names apply (`train`, `eval`, `test`, `export`, `predict`, `postprocess`).

    Raises:
        UsageError: names file and line, or the flag, and the remedy.
    """
    return _resolve(find_config(str(path)), list(overrides), script)


def parse_command_line(argv: Sequence[str], script: str) -> Config:
    """Parses `--config FILE` and the other flags of a command.

    Raises:
        UsageError: names file and line, or the flag, and the remedy.
        SystemExit: after `--help` or `--print_config`.
    """
    argv = list(argv)
    flags = _peek(argv)
    flags.config = _chosen_file(flags)
    if flags.help:
        _print_help(flags, script)
        raise SystemExit(0)
    if not flags.config and not flags.model:
        have = ", ".join(sorted(file.name for file in config_folder().glob("*.yaml")))
        raise UsageError(f"--config is missing: python {script}.py --config configs/NAME.yaml; available: {have}")
    cfg = _resolve(flags.config, argv, script, is_command=True)
    if flags.print_config:
        sys.stdout.write(cfg.to_yaml())
        raise SystemExit(0)
    # Imported only here because it is slow, and not needed if the process has exited above.
    from msdet.ops.fonts import set_font

    set_font(cfg.font)
    return cfg


def _resolve(path: str, argv: list[str], script: str, is_command: bool = False) -> Config:
    """The configuration of a file (if `path` is empty: of the defaults) and flags; raises UsageError."""
    layers = read_layers(path) if path else []
    model, model_class = _model_of(layers, _peek(argv).model)
    if not model:
        raise UsageError(f"{path}: `model:` is missing; set it to one of {', '.join(model_table())}, or set `base:`")
    aliases, keys = flag_aliases(model, script), keys_of(model_class)
    values, places = _values_of_files(layers, keys, model, script)
    typed = _parse(_parser(model_class, aliases, script, old_values=old_value_names(model)), argv)
    if is_command:
        _refuse_flags_of_others(typed, keys, script)
    flag_names = {alias: (key,) for alias, key in aliases.items()}
    for name, (setting, value) in _assign(typed, keys, flag_names, model).items():
        values[name], places[name] = value, setting.place
    cfg = model_class(**values, places=places)
    cfg.check()
    return cfg


def _values_of_files(
    layers: list[list[Setting]], keys: Mapping[str, Key], model: str, script: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Key -> value and key -> place of the last layer that sets it."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    names = file_aliases(model, script)
    for layer in layers:
        for name, (setting, value) in _assign(layer, keys, names, model).items():
            values[name], places[name] = value, setting.place
    return values, places


def _chosen_file(flags: argparse.Namespace) -> str:
    """The config file: `--config`, or `--using_mode` of the old RefineDet, which names a file of configs/."""
    if not flags.using_mode:
        return find_config(flags.config)
    named = config_folder() / f"{flags.using_mode}.yaml"
    modes = sorted(file.stem for file in config_folder().glob("refinedet_*.yaml"))
    if flags.using_mode not in modes:
        raise UsageError(f"--using_mode is {flags.using_mode!r}; it takes one of {', '.join(modes)}")
    if flags.config and Path(flags.config).resolve().parent != config_folder():
        raise UsageError(f"--using_mode selects configs/{named.name}, --config {flags.config}: give only one of them")
    return str(named)


def _peek(argv: list[str]) -> argparse.Namespace:
    """Parses only the flags that determine the set of keys: config file, model, help."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    _add_own_flags(parser)
    parser.add_argument("-h", "--help", nargs="?", const="common", default="")
    parser.add_argument(*[f"--{name}" for name in _MODEL_NAMES], dest="model", default="")
    return parser.parse_known_args(argv)[0]


def _add_own_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", "--config_path", default="", metavar="FILE", help="YAML config file (see configs/)")
    parser.add_argument("--using_mode", default="", metavar="NAME", help="RefineDet: --config configs/NAME.yaml")
    parser.add_argument("--print_config", action="store_true", help="print the resolved values as YAML and exit")


def _model_of(layers: list[list[Setting]], typed: str) -> tuple[str, type[Config]]:
    """Name and configuration class of the model: from the flag, else from the last layer; ("", Config) if none."""
    written = [setting for layer in layers for setting in layer if setting.name in _MODEL_NAMES]
    name, place = (typed, "--model") if typed else (str(written[-1].raw), written[-1].place) if written else ("", "")
    if not name:
        return "", Config
    try:
        return name, config_class(name)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


class _Parser(argparse.ArgumentParser):
    """Raises UsageError, and stores the flags that have an effect on the command in `known`."""

    known: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


class _Record(argparse.Action):
    """Stores the flag as it was typed, with its value."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option_string: str | None = None
    ) -> None:
        assert option_string is not None, "there are no positional arguments"
        namespace.settings.append(Setting(self.dest, values, option_string))


def _parser(
    model_class: type[Config],
    aliases: Mapping[str, str],
    script: str,
    values: Mapping[str, object] | None = None,
    shows_all: bool = False,
    old_values: Sequence[str] = (),
) -> _Parser:
    """A parser with all flags of a model.

    Args:
        model_class: its configuration class.
        aliases: old flag -> key.
        script: the command.
        values: values of a config file for `--help` to show instead of the defaults.
        shows_all: whether `--help` shows the advanced flags of the command too.
        old_values: old flags whose values are rewritten; hidden.
    """
    parser = _Parser(
        usage=f"python {script}.py --config configs/NAME.yaml [--key value ...]",
        epilog="--debug shows the traceback of an error.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34, width=140),
    )
    _add_own_flags(parser)
    keys = keys_of(model_class)
    shown = {name for name, k in keys.items() if k.serves(script) and name not in model_class.UNUSED}
    parser.known = sorted(shown)
    for name in old_values:
        parser.add_argument(f"--{name}", dest=name, action=_Record, help=argparse.SUPPRESS, nargs="?", const="True")
    sections = {keys[name].group: parser.add_argument_group(keys[name].group) for name in keys if name in shown}
    for name, k in keys.items():
        own = [] if name in aliases else [f"--{name}"]
        old = [f"--{alias}" for alias, target in aliases.items() if target == name]
        if own and old and not shows_all:
            # Old names are accepted but hidden.
            parser.add_argument(*old, dest=name, action=_Record, help=argparse.SUPPRESS, **_bare(k))
            old = []
        flags = own + old
        if flags:
            # A key without effect, or of another command, is still parsed, to be rejected with a specific message.
            is_visible = name in shown and (shows_all or not k.is_advanced(script))
            meaning = _help(k, (values or {}).get(name, k.default)) if is_visible else argparse.SUPPRESS
            group = sections[k.group] if name in shown else parser
            group.add_argument(*flags, dest=name, action=_Record, metavar=_metavar(k), help=meaning, **_bare(k))
    if not shows_all:
        advanced = [key for name, key in keys.items() if name in shown and key.is_advanced(script)]
        parser.epilog = f"{_list_keys(advanced)}\n\n{parser.epilog}"
    return parser


def _list_keys(keys: Iterable[Key]) -> str:
    """The list of advanced keys at the end of `--help`, section by section."""
    sections: dict[str, list[str]] = {}
    for key in keys:
        sections.setdefault(key.group, []).append(key.name)
    lines = [f"{title}: {', '.join(names)}" for title, names in sections.items()]
    wrapped = ["\n".join(textwrap.wrap(line, 138, subsequent_indent="  ")) for line in lines]
    return "\n".join(["advanced flags (explained by --help all):", *[f"  {line}" for line in wrapped]])


def _refuse_flags_of_others(typed: Iterable[Setting], keys: Mapping[str, Key], script: str) -> None:
    """Rejects flags of other commands.

    Raises:
        UsageError: names the first one.
    """
    for setting in typed:
        key = keys.get(setting.name)
        # Old names are accepted wherever the old zoo accepted them.
        if key is not None and not key.serves(script) and setting.place == f"--{key.name}":
            owners = ", ".join(key.commands)
            raise UsageError(
                f"{setting.place} is a flag of msdet {owners} and has no effect on msdet {script}: remove it"
            )


def _bare(k: Key) -> dict[str, Any]:
    """argparse options of a flag: the value of a boolean flag may be omitted."""
    return {"nargs": "?", "const": "True"} if k.type is bool else {}


def _metavar(k: Key) -> str:
    return {bool: "0|1", int: "N", float: "X", str: "TEXT"}.get(k.type, "LIST")


def _help(k: Key, value: object) -> str:
    if isinstance(value, tuple | list):
        items = [list(item) if isinstance(item, tuple) else item for item in value]
        value = str(items).replace(" ", "").replace("'", "")
    choices = f" [{' | '.join(k.choices)}]" if k.choices and len(k.choices) > 1 else ""
    shown = f" ({value})" if value != "" else ""
    return f"{k.help}{choices}{shown}".replace("%", "%%")


def _print_help(flags: argparse.Namespace, script: str) -> None:
    layers = read_layers(flags.config) if flags.config else []
    model, model_class = _model_of(layers, flags.model)
    # Raw texts, because the module that converts them is slow to import.
    names = file_aliases(model, script) if model else {}
    values = {key: s.raw for layer in layers for s in layer for key in names.get(s.name, (s.name,))}
    parser = _parser(model_class, flag_aliases(model, script), script, values, flags.help == "all")
    if not model:
        parser.epilog = f"Add --config configs/NAME.yaml to list the keys of that model too.\n{parser.epilog}"
    parser.print_help()


def _parse(parser: _Parser, argv: list[str]) -> list[Setting]:
    """The flags as settings named by their key; raises UsageError for unknown flags and stray words."""
    namespace, rest = parser.parse_known_args(argv, argparse.Namespace(settings=[]))
    if rest:
        word = rest[0].split("=")[0]
        if not word.startswith("-"):
            raise UsageError(f"unexpected argument {word!r}; write --key value or --key=value")
        raise UsageError(f"unknown flag {word}{_hint(word, parser.known, '--')}")
    return namespace.settings


def _assign(
    layer: list[Setting], keys: Mapping[str, Key], names: Mapping[str, tuple[str, ...]], model: str
) -> dict[str, tuple[Setting, object]]:
    """Key -> (setting, typed value) of one file or of the command line.

    Args:
        layer: the settings.
        keys: of the model.
        names: old name -> the keys that it sets; empty: a known name without effect on this command.
        model: name of the model.
    """
    result: dict[str, tuple[Setting, object]] = {}
    for setting in layer:
        for name, raw in _targets(setting, keys, names, model).items():
            if name in result and _sets_several_keys(setting, names):
                # An old name of two keys yields to the name of one of them, wherever in the file that is.
                continue
            found = _typed(setting, keys[name], raw)
            if found is None:
                continue
            if name in result and _sets_several_keys(result[name][0], names):
                del result[name]
            if name in result:
                found = _resolve_duplicate(result[name], found, name)
            result[name] = found
    return result


def _targets(
    setting: Setting, keys: Mapping[str, Key], names: Mapping[str, tuple[str, ...]], model: str
) -> dict[str, object]:
    """The keys that a setting sets, with their raw values; see `_assign`.

    Raises:
        UsageError: unknown name, or a value of an old key that is not accepted.
    """
    # A name that is also a key means that key: a config file serves every command.
    if setting.name in keys:
        return {setting.name: setting.raw}
    try:
        rewritten = rewrite_value(model, setting.name, setting.raw)
    except ValueError as error:
        raise UsageError(f"{_label(setting)} is {_shown(setting.raw)}; it {error}") from None
    if rewritten is not None:
        return dict(rewritten)
    if setting.name not in names:
        raise UsageError(f"{setting.place}: unknown key {setting.name!r}{_hint(setting.name, keys)}")
    return dict.fromkeys(names[setting.name], setting.raw)


def _sets_several_keys(setting: Setting, names: Mapping[str, tuple[str, ...]]) -> bool:
    return len(names.get(setting.name, ())) > 1


def _typed(setting: Setting, key: Key, raw: object) -> tuple[Setting, object] | None:
    """The setting with its converted value; None if it is empty and the key does not accept an empty value."""
    try:
        return setting, key.convert(raw)
    except ValueError as error:
        if raw is None or raw in NONE_WORDS:
            return None
        raise UsageError(f"{_label(setting)} is {_shown(setting.raw)}; it {error}") from None


def _resolve_duplicate(
    first: tuple[Setting, object], second: tuple[Setting, object], name: str
) -> tuple[Setting, object]:
    """Chooses between two settings of one key under different names: the one that is not empty.

    The same flag twice is allowed: the last one counts.

    Raises:
        UsageError: both are set, to different values.
    """
    (one, value_one), (two, value_two) = first, second
    if _label(one) == _label(two):
        return second
    empty = ("", ())
    if value_two in empty:
        return first
    if value_one in empty or value_one == value_two:
        return second
    raise UsageError(f"{_label(one)} and {_label(two)} both set {name}, to {_shown(one.raw)} and {_shown(two.raw)}")


def _label(setting: Setting) -> str:
    return setting.place if setting.place.startswith("--") else f"{setting.place}: {setting.name}"


def _shown(raw: object) -> str:
    text = repr(raw) if isinstance(raw, str) else str(raw).replace("'", "")
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A suggestion for an unknown flag or key; empty if no known one is similar."""
    plain = word.lstrip("-").replace("-", "_").lower()
    if plain in _ADVICE:
        return f"; {_ADVICE[plain]}"
    folded = {name.lower(): name for name in known}
    if plain in _OTHER_FRAMEWORKS:
        near = [_OTHER_FRAMEWORKS[plain]]
    else:
        near = difflib.get_close_matches(plain, folded, n=1, cutoff=0.5)
    if not near:
        return ""
    name = folded.get(near[0], near[0])
    return f"; did you mean {prefix + name if prefix else repr(name)}?"
