"""The values of a configuration: one flat set of keys, immutable and checked.

The files of `sections/` declare those that all models share, `config.py` of a model its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from msdet.config.key import keys_of, title_of
from msdet.config.sections.augmentation import AugmentKeys
from msdet.config.sections.data import (
    ClassKeys,
    DataFileKeys,
    DataKeys,
    FormatKeys,
    LimitKeys,
    ReadingKeys,
    SampleKeys,
)
from msdet.config.sections.device import CompileKeys, DeviceKeys, DistributedKeys, ProfilerKeys
from msdet.config.sections.evaluation import (
    BatchKeys,
    EvalInTrainingKeys,
    OtherProgramKeys,
    ReportKeys,
    ResultFileKeys,
    ScoreKeys,
    ThresholdKeys,
)
from msdet.config.sections.export import ExportKeys, QuantizedExportKeys
from msdet.config.sections.image import ImageKeys, TrainingImageKeys
from msdet.config.sections.model import ModelKeys
from msdet.config.sections.modelarts import ModelArtsKeys
from msdet.config.sections.output import HookKeys, LogKeys, LogPathKeys, RunDetailKeys, RunKeys
from msdet.config.sections.prediction import PredictKeys, RunnerKeys
from msdet.config.sections.training import OptimizerKeys, ScheduleKeys
from msdet.config.sections.weights import StartKeys, WeightsKeys
from msdet.errors import UsageError, UserError

ConfigT = TypeVar("ConfigT", bound="Config")


@dataclass(frozen=True)
class Config(
    # dataclasses collect the fields of the last base first
    ModelArtsKeys,
    LogKeys,
    ProfilerKeys,
    CompileKeys,
    DistributedKeys,
    HookKeys,
    RunDetailKeys,
    LimitKeys,
    ReadingKeys,
    FormatKeys,
    SampleKeys,
    DataFileKeys,
    OptimizerKeys,
    DeviceKeys,
    ReportKeys,
    ScoreKeys,
    ThresholdKeys,
    BatchKeys,
    LogPathKeys,
    RunnerKeys,
    OtherProgramKeys,
    ResultFileKeys,
    QuantizedExportKeys,
    ExportKeys,
    PredictKeys,
    EvalInTrainingKeys,
    RunKeys,
    AugmentKeys,
    ImageKeys,
    TrainingImageKeys,
    ScheduleKeys,
    ClassKeys,
    DataKeys,
    StartKeys,
    WeightsKeys,
    ModelKeys,
):
    """The values of one run. Immutable: `cfg.replace(lr=0.01)` makes a changed one.

    Args:
        places: key -> where its value was written (`configs/yolov3.yaml:12`, `--lr`), for messages.
    """

    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    # Input sizes are multiples of the coarsest stride.
    SIZE_MULTIPLE: ClassVar[int] = 32
    # Of the models that can be trained for int8 this is a key, which takes the place of this among the fields.
    if TYPE_CHECKING:

        @property
        def quantization_aware(self) -> bool: ...
    else:
        quantization_aware: ClassVar[bool] = False
    # `--help` explains a model's own keys for training, and elsewhere names them only.
    OWN_ADVANCED_IN: ClassVar[tuple[str, ...]] = ("eval", "test", "predict", "export", "postprocess", "check", "browse")
    # Keys of all models that this one has no use for: refused, and neither listed nor saved.
    UNUSED: ClassVar[tuple[str, ...]] = ()

    def replace(self: ConfigT, **values: Any) -> ConfigT:
        """A copy with some keys changed; the values are converted and checked as if they came from a file.

        Raises:
            UsageError: an unknown key, a wrong type, a value out of range.
        """
        keys = keys_of(type(self))
        for name, raw in values.items():
            if name not in keys:
                raise UsageError(f"unknown key {name!r}")
            try:
                values[name] = keys[name].convert(raw)
            except ValueError as error:
                raise UsageError(f"{name} is {raw!r}; it {error}") from None
        changed = dataclasses.replace(self, **values)
        changed.check()
        return changed

    def check(self) -> None:
        """Refuses keys that contradict each other.

        Raises:
            UsageError: names the key, where it was set and what it contradicts.
        """
        for name, text in self.problems():
            raise UsageError(f"{self.where(name)} {text}")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with it) for values that do not go together; a model adds its own."""
        for name in self.UNUSED:
            # A file that says the default asks for nothing: configurations saved by older versions hold all keys.
            is_default = getattr(self, name) == keys_of(type(self))[name].default
            if name in self.places and not (is_default and not self.places[name].startswith("--")):
                yield name, f"has no effect with {title_of(type(self))}; leave it out"
        if self.training_shape and not self.training_shape.strip().isdecimal():
            yield "training_shape", f"is {self.training_shape!r}; it takes one number of px, or nothing for multi_scale"
        else:
            for name, sizes in (("training_shape" if self.training_shape else "multi_scale", self.training_sizes),
                                ("testing_shape", (self.testing_size,))):  # fmt: skip
                bad = next((side for size in sizes for side in size if side < 1 or side % self.SIZE_MULTIPLE), None)
                if bad is not None:
                    yield name, f"holds {bad} px; sizes are multiples of {self.SIZE_MULTIPLE}"
        if not self.training_shape and not self.multi_scale:
            yield "multi_scale", "is empty; name at least one size, or set training_shape"
        twice = next((name for i, name in enumerate(self.class_names) if name in self.class_names[:i]), None)
        if twice is not None:
            yield "class_names", f"names {twice!r} twice"
        names, count = len(self.class_names), self.num_classes
        if self.label_map == "dense" and names and count and names != count:
            yield "num_classes", f"is {count}, but {self.where('class_names')} names {names} classes"
        if any(later <= earlier for earlier, later in zip(self.lr_epochs, self.lr_epochs[1:], strict=False)):
            yield "lr_epochs", "must rise from one epoch to the next"
        if self.eta_min > self.lr:
            yield "eta_min", f"is {self.eta_min:g}, above lr {self.lr:g}; the rate would rise"
        if self.jitter_scale[0] > self.jitter_scale[1]:
            yield "jitter_scale", "takes the smaller factor first"
        if self.rank >= self.group_size and self.is_distributed:
            yield "rank", f"is {self.rank}; with group_size {self.group_size} it is at most {self.group_size - 1}"

    def where(self, name: str) -> str:
        """How a message names a key: with the file and line, the flag, or as a default."""
        place = self.places.get(name)
        if place is None:
            return f"{name} (default)"
        if place.startswith("--"):
            return place if place == f"--{name}" else f"{place} ({name})"
        return f"{place}: {name}"

    @property
    def training_sizes(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) in px that training uses: one, or those of multi_scale."""
        if self.training_shape:
            return ((int(self.training_shape), int(self.training_shape)),)
        return self.multi_scale

    @property
    def testing_size(self) -> tuple[int, int]:
        """(height, width) in px of the network input at evaluation."""
        return (self.testing_shape, self.testing_shape)

    def to_dict(self, training_only: bool = False) -> dict[str, Any]:
        """Keys and values with lists for tuples; on demand only the keys that influence the trained weights."""
        keys = [k for k in keys_of(type(self)).values() if k.name not in self.UNUSED]
        return {k.name: _plain(getattr(self, k.name)) for k in keys if k.affects_training or not training_only}

    def to_yaml(self) -> str:
        """All values as YAML that `load_config` reads back to an equal configuration."""
        import yaml

        class Dumper(yaml.SafeDumper):
            """Of its own, since it is changed."""

        Dumper.add_representer(
            list, lambda d, items: d.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
        )
        return yaml.dump(self.to_dict(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)

    def save(self, path: str | Path) -> None:
        """Writes `to_yaml()`; the file is whole or absent. Raises a UserError if it cannot be written."""
        from msdet.files import atomic_path

        with atomic_path(path) as beside:
            beside.write_text(self.to_yaml(), encoding="utf-8")


def diff_configs(old: Config | Mapping[str, Any], new: Config | Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys that influence the trained weights and differ: key -> (old, new). A key that the old side lacks, as what an
    earlier version saved lacks new ones, counts as its default there; one that the new side lacks as None.

    Args:
        old, new: configurations, or what `to_dict` made of them.
    """
    classes = [type(side) for side in (old, new) if isinstance(side, Config)] or [Config]
    silent = {
        name for cls in classes for name, k in keys_of(cls).items() if not k.affects_training or name in cls.UNUSED
    }
    before, after = (side.to_dict() if isinstance(side, Config) else dict(side) for side in (old, new))
    defaults = {name: _plain(k.default) for cls in classes for name, k in keys_of(cls).items()}
    before = {**{name: defaults[name] for name in after if name in defaults}, **before}
    names = [name for name in {**before, **after} if name not in silent]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def resolve_classes(cfg: ConfigT, found: Sequence[str], source: str | Path) -> ConfigT:
    """Holds the classes of a configuration against those of an annotation file and fills in what it leaves open.

    Args:
        cfg: with or without class_names and num_classes.
        found: category names of the annotation file, in label order.
        source: the annotation file, for messages.

    Returns:
        The configuration with num_classes, and with `label_map: dense` class_names, set.

    Raises:
        UserError: a category the configuration does not know, or another number of classes.
    """
    unknown = [name for name in found if name not in cfg.class_names] if cfg.class_names else []
    if unknown:
        raise UserError(
            f"{source}: category {unknown[0]!r} is not in the {len(cfg.class_names)} of {cfg.where('class_names')}; "
            "add it there, or leave class_names empty to take those of the file"
        )
    if cfg.label_map != "dense":
        if not cfg.num_classes:
            raise UsageError(
                f"{cfg.where('label_map')} is {cfg.label_map}; set num_classes too (the largest category id)"
            )
        return cfg
    names = cfg.class_names or tuple(found)
    if cfg.num_classes and cfg.num_classes != len(names):
        raise UserError(
            f"{cfg.where('num_classes')} is {cfg.num_classes}, but {source} has {len(names)} categories; "
            "set num_classes to 0 to follow the file, or list all class_names"
        )
    return dataclasses.replace(cfg, class_names=names, num_classes=len(names))


def _plain(value: object) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
