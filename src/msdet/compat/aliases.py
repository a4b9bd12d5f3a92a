"""Old names of the old model zoo's flags and config files, and the keys that they set."""

from __future__ import annotations

from collections.abc import Mapping

# Names with one meaning in all models and commands.
_SHARED = {
    "T_max": "t_max",
    "epoch_size": "max_epoch",
    "epoch_num": "max_epoch",
    "run_platform": "device_target",
    "distribute": "is_distributed",
    "run_distribute": "is_distributed",
    "run_distributed": "is_distributed",
    "is_dynamic_loss_scale": "dynamic_loss_scale",
    "max_box": "max_boxes",
    "workers": "num_parallel_workers",
    "labels": "class_names",
    "annFile": "val_ann_file",
    "ann_val_file": "val_ann_file",
    "ann_file": "train_ann_file",
    "coco_root": "data_dir",
    "voc_root": "data_dir",
    "result_files": "result_path",
    "img_path": "val_image_dir",
    "img_id_file_path": "val_image_dir",
    "is_modelarts": "enable_modelarts",
    "run_online": "enable_modelarts",
    "pre_trained_url": "checkpoint_url",
    "pre_trained_epoch_size": "pretrained_epochs",
    "pretrained_epoch_num": "pretrained_epochs",
    "resume_yolov3": "pretrained",
    "resume_yolov4": "pretrained",
    "pretrained_checkpoint": "pretrained",
    "ckpt_file": "pretrained",
}

# Names with one meaning in all models, but only on the command line of one command.
_BY_SCRIPT = {
    "export": {"batch_size": "export_batch_size"},
    "train": {"anno_path": "train_ann_file", "image_dir": "train_image_dir"},
    "eval": {"anno_path": "val_ann_file", "image_dir": "val_image_dir"},
    "postprocess": {"anno_path": "val_ann_file", "image_dir": "val_image_dir"},
}

# In a config file, which serves all commands, these set the keys of both splits.
_BOTH_SPLITS = {
    "anno_path": ("train_ann_file", "val_ann_file"),
    "image_dir": ("train_image_dir", "val_image_dir"),
}

_YOLO_EVAL = {
    "per_batch_size": "eval_batch_size",
    "batch_size": "eval_batch_size",
    "ignore_threshold": "eval_ignore_threshold",
    "ann_file": "val_ann_file",
}
_YOLO = {
    "train": {"batch_size": "per_batch_size"},
    "eval": _YOLO_EVAL,
    "test": _YOLO_EVAL,
    "postprocess": _YOLO_EVAL,
}
_EFFICIENTDET_EVAL = {"nms_threshold": "nms_thresh", "score_threshold": "eval_ignore_threshold"}
_REFINEDET_EVAL = {
    "batch_size": "eval_batch_size",
    "nms_threshold": "nms_thresh",
    "min_score": "eval_ignore_threshold",
}
_CLASSIFIER = {
    "*": {
        "net": "model",
        "dataset_path": "data_dir",
        "network_dataset": "dataset",
        "pre_trained": "pretrained",
        "checkpoint_path": "pretrained",
        "class_num": "num_classes",
        "device_num": "group_size",
        "use_label_smooth": "label_smooth",
        "save_checkpoint_epochs": "ckpt_interval",
        "save_checkpoint_path": "ckpt_path",
        "ckpt_save_max": "keep_checkpoint_max",
    },
    "train": {"batch_size": "per_batch_size"},
    "eval": {"batch_size": "eval_batch_size", "per_batch_size": "eval_batch_size"},
    "predict": {"batch_size": "eval_batch_size"},
    # Inputs are square: both must have the same value.
    "export": {"width": "testing_shape", "height": "testing_shape"},
}
# Model -> command -> old name -> key; `*` applies to all commands. A name that is also a key (`per_batch_size` in eval
# of the YOLOs) has the old meaning only on the command line of that command; in a YAML file, which serves training too,
# it means the key.
_BY_MODEL: dict[str, Mapping[str, Mapping[str, str]]] = {
    "yolov3": _YOLO,
    "yolov4": {
        **_YOLO,
        "*": {"anchor_scales": "anchors", "transfer_train": "filter_weight"},
        "test": {
            **_YOLO_EVAL,
            "ignore_threshold": "test_ignore_threshold",
            "eval_ignore_threshold": "test_ignore_threshold",
            "nms_thresh": "test_nms_thresh",
            "ann_file": "test_ann_file",
            "annFile": "test_ann_file",
            "img_path": "test_image_dir",
        },
    },
    "efficientdet_d0": {
        "*": {
            # Both the initial weights of training and the weights to evaluate.
            "checkpoint_path": "pretrained",
            "coco_root": "data_dir",
            "save_checkpoint_epochs": "ckpt_interval",
            "save_checkpoint_path": "ckpt_path",
            "num_efficient_boxes": "max_boxes",
            "momentum_bn": "bn_momentum",
            "drop_connect_rate": "drop_connect",
            "scale_jitter": "jitter_scale",
        },
        "train": {"batch_size": "per_batch_size"},
        "eval": {**_EFFICIENTDET_EVAL, "batch_size": "eval_batch_size", "project": "dataset"},
        "test": {**_EFFICIENTDET_EVAL, "batch_size": "eval_batch_size"},
        "postprocess": _EFFICIENTDET_EVAL,
        "predict": _EFFICIENTDET_EVAL,
        "export": {"pre_trained": "pretrained"},
    },
    "refinedet": {
        "*": {
            "pre_trained": "pretrained",
            "checkpoint_path": "pretrained",
            "save_checkpoint_epochs": "ckpt_interval",
            "check_point": "ckpt_path",
            "device_num": "group_size",
            "objectness_thre": "objectness_threshold",
        },
        "train": {"batch_size": "per_batch_size"},
        "eval": _REFINEDET_EVAL,
        "test": _REFINEDET_EVAL,
        "postprocess": _REFINEDET_EVAL,
        "predict": _REFINEDET_EVAL,
    },
    "darknet53": _CLASSIFIER,
    "cspdarknet53": _CLASSIFIER,
}
# In a config file of these models, `pre_trained` sets the initial weights of training, `checkpoint_path` the weights of
# the other commands.
_TWO_WEIGHTS = ("refinedet", "darknet53", "cspdarknet53")


def flag_aliases(model: str, script: str) -> dict[str, str]:
    """Old flag -> key, for one model and one command.

    Args:
        model: as in the model table; empty: only the names that apply to all models.
        script: `train`, `eval`, `test`, `export`, `predict`, `postprocess`, or a command without old names.
    """
    own = _BY_MODEL.get(model, {})
    return {**_SHARED, **_BY_SCRIPT.get(script, {}), **own.get("*", {}), **own.get(script, {})}


def file_aliases(model: str, script: str) -> dict[str, tuple[str, ...]]:
    """Old name in a YAML file -> the keys that it sets; empty: a known name without effect on this command.

    A file serves every command, so a name has its meaning of training whichever command reads it; a name that training
    does not have keeps its meaning of the command that has it. Only the two names for weights depend on the command.
    """
    own = _BY_MODEL.get(model, {})
    names: dict[str, str] = {}
    for other in ("postprocess", "predict", "export", "test", "eval", "train"):
        names |= {**_BY_SCRIPT.get(other, {}), **own.get(other, {})}
    found: dict[str, tuple[str, ...]] = {name: (key,) for name, key in {**names, **flag_aliases(model, "")}.items()}
    found |= _BOTH_SPLITS
    if model in _TWO_WEIGHTS:
        found["checkpoint_path" if script == "train" else "pre_trained"] = ()
    return found
