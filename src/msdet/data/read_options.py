"""How annotations become samples: what a caller may choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msdet.errors import UsageError

LABEL_MAPS = ("dense", "coco_id_minus_1")


@dataclass(frozen=True)
class ReadOptions:
    """How annotations become samples.

    Attributes:
        class_names: the classes, in label order; empty takes those of the annotations in the order of their ids. A
            class that no box uses need not be among them.
        label_map: `dense` numbers the classes in their order; `coco_id_minus_1` takes category id - 1, so that unused
            ids stay as holes, named "(unused)".
        num_classes: outputs of the network, which under `coco_id_minus_1` may be more than the annotations have ids.
        on_bad_box: what a box without area, with a value that is no finite number, or outside its image does:
            `error`, or `skip` (left out, counted, logged). Two boxes of zero height in COCO's own train files are
            known and always skipped.
        on_bad_image: what an image file that is not there does: `error`, or `skip` (left out, counted, logged).
        keep_crowd, keep_difficult: False leaves crowd regions, or objects marked difficult, out altogether.
        check_images: look whether every image file is there. False for scoring without images: those that are not
            there are no fault, and `skip` leaves them out only where others are there.
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
