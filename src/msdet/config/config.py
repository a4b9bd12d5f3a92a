"""A configuration: one flat set of keys, immutable and validated.

The files in `sections/` declare the keys that all models share, the `config.py` of a model its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from msdet.compat.old_values import saved_values
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
    # Dataclasses collect the fields of the last base first.
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
    """The values of one run. Immutable: `cfg.replace(lr=0.01)` returns a changed copy.

    Args:
        places: key -> where it was set (`configs/yolov3.yaml:12`, `--lr`), for messages.
    """

    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    # Input sizes are multiples of the coarsest stride.
    SIZE_MULTIPLE: ClassVar[int] = 32
    # Models that support quantization-aware training have a key of this name, which replaces this constant.
    if TYPE_CHECKING:

        @property
        def quantization_aware(self) -> bool: ...
    else:
        quantization_aware: ClassVar[bool] = False
    # A model's own keys are explained by `--help` of train, and only listed by that of these commands.
    OWN_ADVANCED_IN: ClassVar[tuple[str, ...]] = ("eval", "test", "predict", "export", "postprocess", "check", "browse")
    # Keys of a narrow network with every operator of the full one, at a small input size, for tests of all models.
    NARROW: ClassVar[Mapping[str, Any]] = {}
    # Shared keys that have no effect on this model: rejected when set, and neither listed nor saved.
    UNUSED: ClassVar[tuple[str, ...]] = ()

    def replace(self: ConfigT, **values: Any) -> ConfigT:
        """A copy with some keys changed; the values are converted and validated like those of a config file.

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
        """Validates the combination of keys; see `problems`.

        Raises:
            UsageError: names the key, where it was set, and what is wrong.
        """
        for name, text in self.problems():
            raise UsageError(f"{self.where(name)} {text}")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with it) for invalid combinations of values; models extend it."""
        for name in self.UNUSED:
            # The default in a file is harmless: configurations saved by older versions contain all keys.
            is_default = getattr(self, name) == keys_of(type(self))[name].default
            if name in self.places and not (is_default and not self.places[name].startswith("--")):
                yield name, f"has no effect with {title_of(type(self))}; remove it"
        if self.training_shape and not self.training_shape.strip().isdecimal():
            yield "training_shape", f"is {self.training_shape!r}; it takes one size in px, or nothing for multi_scale"
        else:
            for name, sizes in (("training_shape" if self.training_shape else "multi_scale", self.training_sizes),
                                ("testing_shape", (self.testing_size,))):  # fmt: skip
                bad = next((side for size in sizes for side in size if side < 1 or side % self.SIZE_MULTIPLE), None)
                if bad is not None:
                    yield name, f"contains {bad} px; sizes must be multiples of {self.SIZE_MULTIPLE}"
        if not self.training_shape and not self.multi_scale:
            yield "multi_scale", "is empty; give at least one size, or set training_shape"
        twice = next((name for i, name in enumerate(self.class_names) if name in self.class_names[:i]), None)
        if twice is not None:
            yield "class_names", f"contains {twice!r} twice"
        names, count = len(self.class_names), self.num_classes
        if self.label_map == "dense" and names and count and names != count:
            yield "num_classes", f"is {count}, but {self.where('class_names')} has {names} classes"
        if self.pretrained_epochs >= self.max_epoch:
            yield "pretrained_epochs", f"is {self.pretrained_epochs}; max_epoch {self.max_epoch} leaves no epoch"
        if any(later <= earlier for earlier, later in zip(self.lr_epochs, self.lr_epochs[1:], strict=False)):
            yield "lr_epochs", "must be strictly increasing"
        if self.eta_min > self.lr:
            yield "eta_min", f"is {self.eta_min:g}, above lr {self.lr:g}; the learning rate would rise"
        if self.jitter_scale[0] > self.jitter_scale[1]:
            yield "jitter_scale", "must be (minimum, maximum)"
        if self.rank >= self.group_size and self.is_distributed:
            yield "rank", f"is {self.rank}; with group_size {self.group_size} the maximum is {self.group_size - 1}"

    def where(self, name: str) -> str:
        """The name of a key for messages, with file and line, flag, or "(default)"."""
        place = self.places.get(name)
        if place is None:
            return f"{name} (default)"
        if place.startswith("--"):
            return place if place == f"--{name}" else f"{place} ({name})"
        return f"{place}: {name}"

    @property
    def training_sizes(self) -> tuple[tuple[int, int], ...]:
        """The training sizes (height, width) in px: training_shape, or those of multi_scale."""
        if self.training_shape:
            return ((int(self.training_shape), int(self.training_shape)),)
        return self.multi_scale

    @property
    def testing_size(self) -> tuple[int, int]:
        """(height, width) in px of the network input at evaluation."""
        return (self.testing_shape, self.testing_shape)

    def to_dict(self, training_only: bool = False) -> dict[str, Any]:
        """Key -> value, with lists for tuples.

        Args:
            training_only: only the keys that affect the trained weights.
        """
        keys = [k for k in keys_of(type(self)).values() if k.name not in self.UNUSED]
        return {k.name: _plain(getattr(self, k.name)) for k in keys if k.affects_training or not training_only}

    def to_yaml(self) -> str:
        """YAML that `load_config` reads back as an equal configuration."""
        import yaml

        class Dumper(yaml.SafeDumper):
            """A separate class, because a representer is added to it."""

        Dumper.add_representer(
            list, lambda d, items: d.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
        )
        return yaml.dump(self.to_dict(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)

    def save(self, path: str | Path) -> None:
        """Writes `to_yaml()` to a file atomically; raises UserError if it cannot be written."""
        from msdet.files import atomic_path

        with atomic_path(path) as temporary:
            temporary.write_text(self.to_yaml(), encoding="utf-8")


def diff_configs(old: Config | Mapping[str, Any], new: Config | Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys that affect the trained weights and differ: key -> (old value, new value).

    A key missing in `old` (saved by an earlier version) counts as its default, one missing in `new` as None.

    Args:
        old, new: configurations, or results of `to_dict`.
    """
    classes = [type(cfg) for cfg in (old, new) if isinstance(cfg, Config)] or [Config]
    ignored = {
        name for cls in classes for name, k in keys_of(cls).items() if not k.affects_training or name in cls.UNUSED
    }
    before, after = (cfg.to_dict() if isinstance(cfg, Config) else dict(cfg) for cfg in (old, new))
    defaults = {name: _plain(k.default) for cls in classes for name, k in keys_of(cls).items()}
    before = {**{name: defaults[name] for name in after if name in defaults}, **saved_values(before)}
    names = [name for name in {**before, **after} if name not in ignored]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def resolve_classes(cfg: ConfigT, found: Sequence[str], source: str | Path) -> ConfigT:
    """Checks the classes of a configuration against those of an annotation file and fills in unset ones.

    Args:
        cfg: class_names and num_classes may be unset.
        found: category names of the annotation file, in label order.
        source: the annotation file, for messages.

    Returns:
        The configuration with num_classes set, and with `label_map: dense` class_names too.

    Raises:
        UserError: a category that is not in class_names, or a different number of classes.
    """
    unknown = [name for name in found if name not in cfg.class_names] if cfg.class_names else []
    if unknown:
        raise UserError(
            f"{source}: category {unknown[0]!r} is not among the {len(cfg.class_names)} of {cfg.where('class_names')}; "
            "add it there, or leave class_names empty to use those of the file"
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
            "set num_classes to 0 to use those of the file, or list all class_names"
        )
    return dataclasses.replace(cfg, class_names=names, num_classes=len(names))


def _plain(value: object) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
