"""The positional arguments of the run_*.sh scripts, for each kind of script and each model.

A signature is a list of names as printed in the usage, optional ones in brackets. The signature is selected by the
number of arguments and by the values that each name accepts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msdet.config.yaml_file import config_folder
from msdet.errors import UsageError

CONFIGS = config_folder()

# Learning rates of RefineDet: 0.05 or 0.02 in the old model zoo, 0.001 in the paper (0.008 with 8 times its batch).
_MIN_SEED_RATE = 0.01

# The config of a model name that is not the name of a config file.
MAIN_CONFIGS = {
    "efficientdet": "efficientdet_d0",
    "refinedet": "refinedet_vgg16_320",
    "darknet53": "darknet53_imagenet",
    "cspdarknet53": "cspdarknet53_imagenet",
}


@dataclass(frozen=True)
class Argument:
    """A positional argument.

    Attributes:
        meaning: description for the usage.
        flag: flag of the entry script that it sets; empty: used by the launcher itself.
        accepts: regular expression for the whole argument.
        is_path: relative to the folder of the caller.
    """

    meaning: str
    flag: str = ""
    accepts: str = r"(?s).*"
    is_path: bool = False


ARGUMENTS = {
    "DATA_DIR": Argument("folder of the dataset", "data_dir", is_path=True),
    "DATASET": Argument("dataset format: coco, voc, other, imagenet2012, ...", "dataset", r"[A-Za-z]\w*"),
    "PRETRAINED_BACKBONE": Argument("checkpoint of the backbone", "pretrained_backbone", is_path=True),
    "RESUME_YOLOV3": Argument("checkpoint of the float network to start from", "pretrained", is_path=True),
    "PRE_TRAINED": Argument("checkpoint to start from", "pretrained", is_path=True),
    "PRE_TRAINED_EPOCH_SIZE": Argument(
        "epochs for which that checkpoint was trained", "pre_trained_epoch_size", r"\d+"
    ),
    "CHECKPOINT_PATH": Argument("checkpoint to evaluate", "pretrained", is_path=True),
    "EPOCH_SIZE": Argument("epochs to train", "max_epoch", r"\d+"),
    "LR": Argument("learning rate after the warm-up", "lr", r"[-+.\deE]+"),
    "DEVICE_ID": Argument("device id, default 0", "", r"\d+"),
    "DEVICE_NUM": Argument("number of processes on this machine", "", r"[1-9]\d*"),
    "RANK_TABLE_FILE": Argument("HCCL rank table: the devices and machines to use", "", r"(?s).*\.json", is_path=True),
    "MODEL_FILE": Argument("exported file: .mindir, .onnx, or .om of atc", "pretrained", is_path=True),
    "DATA_PATH": Argument("folder of the dataset, or of its images with ANN_FILE", "", r"(?s).+", is_path=True),
    "ANN_FILE": Argument("annotation file of the images", "val_ann_file", r"(?s).*\D.*", is_path=True),
    "IMAGE_SHAPE": Argument("image_shape.npy, the size of each image", "image_shape", r"(?s).*\.npy", is_path=True),
    "IMAGE_ID": Argument("image_id.npy, the id of each image", "image_id", r"(?s).*\.npy", is_path=True),
}

_YOLOV4 = {
    "standalone": ("DATA_DIR PRETRAINED_BACKBONE [DEVICE_ID]",),
    "distribute": ("DATA_DIR PRETRAINED_BACKBONE [RANK_TABLE_FILE]",),
}
_CLASSIFIER = {
    "standalone": ("DATASET DATA_DIR [PRE_TRAINED]",),
    "distribute": ("DATASET DATA_DIR [PRE_TRAINED]",),
    "eval": ("DATA_DIR CHECKPOINT_PATH [DEVICE_ID]",),
    "infer": ("MODEL_FILE DATA_PATH [DEVICE_ID]",),
}

# By prefix of the config name; the longest match is used, "" contains the defaults.
SIGNATURES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "": {
        **_YOLOV4,
        "eval": ("DATA_DIR CHECKPOINT_PATH [DEVICE_ID]",),
        "test": ("DATA_DIR CHECKPOINT_PATH [DEVICE_ID]",),
        "infer": ("MODEL_FILE DATA_PATH [DEVICE_ID] [ANN_FILE]",),
    },
    "yolov3_quant": {
        "standalone": ("DATA_DIR RESUME_YOLOV3 [DEVICE_ID]",),
        "distribute": ("DATA_DIR RESUME_YOLOV3 [RANK_TABLE_FILE]",),
        "infer": (
            "MODEL_FILE DATA_PATH [DEVICE_ID] [ANN_FILE]",
            "MODEL_FILE DATA_PATH ANN_FILE IMAGE_SHAPE IMAGE_ID [DEVICE_ID]",
        ),
    },
    "efficientdet": {
        "standalone": ("[DEVICE_ID]",),
        "distribute": ("[RANK_TABLE_FILE]",),
        "eval": ("CHECKPOINT_PATH [DEVICE_ID]",),
    },
    "refinedet": {
        "standalone": (
            "DEVICE_ID EPOCH_SIZE LR DATASET",
            "DEVICE_ID EPOCH_SIZE LR DATASET PRE_TRAINED PRE_TRAINED_EPOCH_SIZE",
        ),
        "distribute": (
            "DEVICE_NUM EPOCH_SIZE LR DATASET [RANK_TABLE_FILE]",
            "DEVICE_NUM EPOCH_SIZE LR DATASET [RANK_TABLE_FILE] PRE_TRAINED PRE_TRAINED_EPOCH_SIZE",
        ),
        "eval": ("DATASET CHECKPOINT_PATH DEVICE_ID",),
    },
    "darknet53": _CLASSIFIER,
    "cspdarknet53": {
        "standalone": (*_CLASSIFIER["standalone"], "DEVICE_ID DATA_DIR [PRE_TRAINED]"),
        "distribute": (*_CLASSIFIER["distribute"], "RANK_TABLE_FILE DATA_DIR [PRE_TRAINED]"),
        "eval": ("DEVICE_ID DATA_DIR CHECKPOINT_PATH", "DATA_DIR CHECKPOINT_PATH [DEVICE_ID]"),
        "infer": _CLASSIFIER["infer"],
    },
}


# Additional flags of the old zoo's scripts for one device, by name of the config.
_STANDALONE_FLAGS: Mapping[str, Mapping[str, str]] = {
    "yolov4": {"training_shape": "416", "warmup_epochs": "4"},
    "yolov3_quant": {"lr": "0.004"},
}


@dataclass(frozen=True)
class Script:
    """One of the scripts.

    Attributes:
        kind: selects the signatures.
        entry: the entry script that it starts.
        is_training: a failed run can be resumed from its checkpoints.
        flags: additional flags of the entry script.
        folder: of the log; the number of the rank or device is appended where there can be several.
    """

    kind: str
    entry: str
    is_training: bool = False
    flags: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""


_GPU = {"device_target": "GPU"}
SCRIPTS = {
    "run_standalone_train": Script("standalone", "train.py", True, {}, "train"),
    "run_standalone_train_gpu": Script("standalone", "train.py", True, _GPU, "train"),
    "run_distribute_train": Script("distribute", "train.py", True, {}, "train_parallel"),
    "run_distribute_train_gpu": Script("distribute", "train.py", True, _GPU, "train_parallel"),
    "run_eval": Script("eval", "eval.py", False, {}, "eval"),
    "run_eval_gpu": Script("eval", "eval.py", False, _GPU, "eval"),
    "run_test": Script("test", "test.py", False, {}, "test"),
    "run_test_gpu": Script("test", "test.py", False, _GPU, "test"),
    "run_infer_310": Script("infer", "postprocess.py", False, {}, "infer_310"),
}


def find_config(model: str, caller_folder: Path) -> Path:
    """The config file of MODEL: a path (relative to `caller_folder`), the name of a file in configs/, or a model name.

    Raises:
        UsageError: no such config.
    """
    if model.endswith((".yaml", ".yml")) or "/" in model:
        path = caller_folder / model
        if path.is_file():
            return path
        raise UsageError(f"MODEL {model} is not a file (relative to {caller_folder})")
    for name in (model, MAIN_CONFIGS.get(model, "")):
        path = CONFIGS / f"{name}.yaml"
        if name and path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise UsageError(f"there is no model {model!r}; MODEL is a path to a config, or one of {known}")


def family_of(config: Path) -> str:
    """The key of `SIGNATURES` for a config, by its file name or else by its model.

    Raises:
        UsageError: the file cannot be read as a config.
    """
    return _longest_family(config.stem) or _longest_family(model_in(config))


def standalone_flags(config: Path) -> Mapping[str, str]:
    """Additional flags of a training on one device; none for a config of the user."""
    return _STANDALONE_FLAGS.get(config.stem, {}) if config.parent == CONFIGS else {}


def model_in(config: Path) -> str:
    """The model of a config, "" if it has none; old configs of classifiers call it `net`.

    Raises:
        UsageError: the file cannot be read as a config.
    """
    from msdet.config.yaml_file import read_layers

    settings = [setting for layer in read_layers(str(config)) for setting in layer if setting.name in ("model", "net")]
    return str(settings[-1].raw) if settings else ""


def config_for_rate(config: Path, named: Mapping[str, str]) -> tuple[Path, str]:
    """The config for the learning rate among the arguments, and a message if it differs from the named one.

    RefineDet's script in the old zoo takes the learning rate as an argument. With rates as high as there, training by
    the paper's recipe diverges, so the recipe of the old zoo is used: NAME_seed.yaml instead of NAME.yaml.
    """
    try:
        rate = float(named.get("LR") or 0)
    except ValueError:  # train.py reports the invalid value
        return config, ""
    seed = config.with_name(f"{config.stem}_seed.yaml")
    if rate < _MIN_SEED_RATE or not seed.is_file():
        return config, ""
    return seed, (
        f"LR {named['LR']} is a learning rate of the old model zoo: using {seed.name} instead of {config.name}, which "
        f"is for rates below {_MIN_SEED_RATE}"
    )


def _longest_family(name: str) -> str:
    return max((family for family in SIGNATURES if name.startswith(family)), key=len)


def signatures_of(family: str, kind: str) -> tuple[str, ...]:
    """The signatures of a kind of script for a family."""
    return SIGNATURES[family].get(kind) or SIGNATURES[""][kind]


def match_arguments(arguments: Sequence[str], signatures: Sequence[str]) -> dict[str, str] | None:
    """Name -> argument of the first matching signature, or None. Every name accepts an empty argument (unset)."""
    for signature in signatures:
        for names in _expansions(signature):
            if len(names) == len(arguments) and all(
                not given or re.fullmatch(ARGUMENTS[name].accepts, given)
                for name, given in zip(names, arguments, strict=True)
            ):
                return dict(zip(names, arguments, strict=True))
    return None


def _expansions(signature: str) -> Iterator[list[str]]:
    """The names of a signature with all optional names, then with fewer; the last ones are dropped first."""
    words = signature.split()
    optional = [word.startswith("[") for word in words]
    for kept in itertools.product((True, False), repeat=sum(optional)):
        keep = iter(kept)
        yield [word.strip("[]") for word, skippable in zip(words, optional, strict=True) if not skippable or next(keep)]


def usage(script: str, model: str, signatures: Sequence[str]) -> str:
    """The usage of a script for a model."""
    names = dict.fromkeys(word.strip("[]") for signature in signatures for word in signature.split())
    # The old scripts of these models read the dataset folder from their config.
    needs_data = not {"DATA_DIR", "DATA_PATH"} & names.keys()
    flags = "--data_dir DIR [--key value ...]" if needs_data else "[--key value ...]"
    lines = [f"usage: bash scripts/{script}.sh {model} {signature} {flags}" for signature in signatures]
    lines += [f"  {name:<23} {ARGUMENTS[name].meaning}" for name in names]
    if needs_data:
        lines.append("  --data_dir DIR          folder of the dataset (old name: coco_root), if the config has none")
    lines.append("  --dry_run               print the commands and the environment without running them")
    return "\n".join(lines)
