"""Options for building a dataset from annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msdet.errors import UsageError

LABEL_MAPS = ("dense", "coco_id_minus_1")


@dataclass(frozen=True)
class ReadOptions:
    """Options for building a dataset from annotations.

    Attributes:
        class_names: the classes in label order; empty: those of the annotations, ordered by id. Classes without boxes
            may be omitted.
        label_map: `dense` numbers the classes in their order; with `coco_id_minus_1` the label is the category id - 1,
            and unused ids are classes named "(unused)".
        num_classes: outputs of the network; with `coco_id_minus_1` they may exceed the largest category id.
        on_bad_box: `error`, or `skip` (counted and logged), for a box without area, with a value that is not finite,
            or outside its image. Two boxes of zero height in COCO's own train files are always skipped.
        on_bad_image: `error`, or `skip` (counted and logged), for a missing image file.
        keep_crowd, keep_difficult: False removes crowd regions, or objects marked difficult.
        check_images: check that every image file exists. False for scoring without images: missing files are no error,
            and `skip` skips them only if some files exist.
    """

    class_names: Sequence[str] = ()
    label_map: str = "dense"
    num_classes: int = 0
    on_bad_box: str = "error"
    on_bad_image: str = "error"
    keep_crowd: bool = True
    keep_difficult: bool = True
    check_images: bool = True

    def __post_init__(self) -> None:
        choices = (
            ("label_map", self.label_map, LABEL_MAPS),
            ("on_bad_box", self.on_bad_box, ("error", "skip")),
            ("on_bad_image", self.on_bad_image, ("error", "skip")),
        )
        for name, value, allowed in choices:
            if value not in allowed:
                raise UsageError(f"{name} {value!r} does not exist: choose {', '.join(allowed)}")
