"""What the run_*.sh scripts take, for each kind of script and each model.

A form is a line of names, those in brackets optional, as the usage prints it. Several forms of one model are told
apart by the number of arguments and by what a name accepts.
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

# RefineDet's seed trained at 0.05 or 0.02, the paper at 0.001 (0.008 with eight times its batch).
_SEED_RATE = 0.01

# The main config of a bare model name that is no file name.
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
        meaning: for the usage.
        flag: the flag of the entry script that it becomes; empty: the launcher itself uses it.
        accepts: regular expression of the whole argument.
        is_path: counted from the folder of the caller.
    """

    meaning: str
    flag: str = ""
    accepts: str = r"(?s).*"
    is_path: bool = False


ARGUMENTS = {
    "DATA_DIR": Argument("folder of the data set", "data_dir", is_path=True),
    "DATASET": Argument("form of the data: coco, voc, other, imagenet2012, ...", "dataset", r"[A-Za-z]\w*"),
    "PRETRAINED_BACKBONE": Argument("checkpoint of the backbone", "pretrained_backbone", is_path=True),
    "RESUME_YOLOV3": Argument("checkpoint of the float network to start from", "pretrained", is_path=True),
    "PRE_TRAINED": Argument("checkpoint to start from", "pretrained", is_path=True),
    "PRE_TRAINED_EPOCH_SIZE": Argument("epochs that checkpoint was trained for", "pre_trained_epoch_size", r"\d+"),
    "CHECKPOINT_PATH": Argument("checkpoint to score", "pretrained", is_path=True),
    "EPOCH_SIZE": Argument("epochs to train", "max_epoch", r"\d+"),
    "LR": Argument("learning rate after the warm-up", "lr", r"[-+.\deE]+"),
    "DEVICE_ID": Argument("number of the card, default 0", "", r"\d+"),
    "DEVICE_NUM": Argument("number of processes on this machine", "", r"[1-9]\d*"),
    "RANK_TABLE_FILE": Argument(
        "HCCL rank table: the cards to use, and the machines", "", r"(?s).*\.json", is_path=True
    ),
    "MODEL_FILE": Argument("exported file: .mindir, .onnx, or .om of atc", "pretrained", is_path=True),
    "DATA_PATH": Argument("folder of the data set, or of its images with ANN_FILE", "", r"(?s).+", is_path=True),
    "ANN_FILE": Argument("annotation file of the images", "val_ann_file", r"(?s).*\D.*", is_path=True),
    "IMAGE_SHAPE": Argument("image_shape.npy, the sides of each image", "image_shape", r"(?s).*\.npy", is_path=True),
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

# By the beginning of a config's name; the longest that fits counts, and "" holds what no line of its own says.
FORMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
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


# What the old zoo's scripts for one card gave to train.py besides their arguments, by the file in configs/.
_STANDALONE_FLAGS: Mapping[str, Mapping[str, str]] = {
    "yolov4": {"training_shape": "416", "warmup_epochs": "4"},
    "yolov3_quant": {"lr": "0.004"},
}


@dataclass(frozen=True)
class Script:
    """One of the scripts.

    Attributes:
        kind: which forms it has.
        entry: the entry script that it starts.
        is_training: the run can be continued from its checkpoints.
        flags: given to the entry script besides those of the arguments.
        folder: of the log; followed by the number of the rank or of the card where there can be several.
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


def find_config(model: str, start: Path) -> Path:
    """The config file of MODEL: a path (from `start`), the name of a file in configs/, or a bare model name.

    Raises:
        UsageError: there is none.
    """
    if model.endswith((".yaml", ".yml")) or "/" in model:
        path = start / model
        if path.is_file():
            return path
        raise UsageError(f"MODEL {model} is no file (looked from {start})")
    for name in (model, MAIN_CONFIGS.get(model, "")):
        path = CONFIGS / f"{name}.yaml"
        if name and path.is_file():
            return path
    have = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise UsageError(f"there is no model {model!r}; MODEL is a path to a config, or one of {have}")


def family_of(config: Path) -> str:
    """The key of `FORMS` that a config belongs to, by its name or else by the model that it names.

    Raises:
        UsageError: the file is not readable as a config.
    """
    return _longest(config.stem) or _longest(model_in(config))


def standalone_flags(config: Path) -> Mapping[str, str]:
    """What a training on one card is given besides its arguments; nothing where the config is one of the user's own."""
    return _STANDALONE_FLAGS.get(config.stem, {}) if config.parent == CONFIGS else {}


def model_in(config: Path) -> str:
    """The model that a config names, "" if none; `net` is the old classifiers' word for it.

    Raises:
        UsageError: the file is not readable as a config.
    """
    from msdet.config.yaml_file import read_layers

    settings = [setting for layer in read_layers(str(config)) for setting in layer if setting.name in ("model", "net")]
    return str(settings[-1].raw) if settings else ""


def for_rate(config: Path, named: Mapping[str, str]) -> tuple[Path, str]:
    """The config that a learning rate among the arguments belongs to, and a sentence if it is another than was named.

    RefineDet's seed took its rate as an argument. One of that size stands for the seed's recipe, NAME_seed.yaml beside
    NAME.yaml: with the paper's it diverges.
    """
    try:
        rate = float(named.get("LR") or 0)
    except ValueError:  # train.py explains what is wrong with it
        return config, ""
    seed = config.with_name(f"{config.stem}_seed.yaml")
    if rate < _SEED_RATE or not seed.is_file():
        return config, ""
    return seed, (
        f"LR {named['LR']} is a rate of the old model zoo: {seed.name} is taken, in which it trains, instead of "
        f"{config.name}, whose rates are below {_SEED_RATE}"
    )


def _longest(name: str) -> str:
    return max((family for family in FORMS if name.startswith(family)), key=len)


def forms_of(family: str, kind: str) -> tuple[str, ...]:
    """The forms of a kind of script for a family."""
    return FORMS[family].get(kind) or FORMS[""][kind]


def match(arguments: Sequence[str], forms: Sequence[str]) -> dict[str, str] | None:
    """Name -> argument of the first form that the arguments fit; None if they fit none. An empty one means none."""
    for form in forms:
        for names in _expansions(form):
            if len(names) == len(arguments) and all(
                not given or re.fullmatch(ARGUMENTS[name].accepts, given)
                for name, given in zip(names, arguments, strict=True)
            ):
                return dict(zip(names, arguments, strict=True))
    return None


def _expansions(form: str) -> Iterator[list[str]]:
    """The form with all optional names, then with fewer; of two, the later is left out first."""
    words = form.split()
    optional = [word.startswith("[") for word in words]
    for kept in itertools.product((True, False), repeat=sum(optional)):
        flags = iter(kept)
        yield [word.strip("[]") for word, may_go in zip(words, optional, strict=True) if not may_go or next(flags)]


def usage(script: str, model: str, forms: Sequence[str]) -> str:
    """The lines that a wrong number of arguments is answered with."""
    names = dict.fromkeys(word.strip("[]") for form in forms for word in form.split())
    # The seeds of these models found the data set in a file of theirs.
    needs_data = not {"DATA_DIR", "DATA_PATH"} & names.keys()
    flags = "--data_dir DIR [--key value ...]" if needs_data else "[--key value ...]"
    lines = [f"usage: bash scripts/{script}.sh {model} {form} {flags}" for form in forms]
    lines += [f"  {name:<23} {ARGUMENTS[name].meaning}" for name in names]
    if needs_data:
        lines.append("  --data_dir DIR          folder of the data set (old name: coco_root), if the config has none")
    lines.append("  --dry_run               print the commands and the environment, and start nothing")
    return "\n".join(lines)
