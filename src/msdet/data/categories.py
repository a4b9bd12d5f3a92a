"""Classes of a dataset: names, category ids and labels."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import chain

from msdet.config.sections.data import MAX_CLASSES
from msdet.data.annotations import ProblemList, RawAnnotations, check_unique
from msdet.data.read_options import ReadOptions
from msdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)

UNUSED_CLASS = "(unused)"
# With coco_id_minus_1 each id up to the largest is an output of the network.
_LARGEST_ID = MAX_CLASSES


def map_classes(raw: RawAnnotations, options: ReadOptions) -> tuple[list[str], list[int], dict[int, int]]:
    """Class names and category ids in label order, and the label of each category id of the file that has one.

    Raises:
        UserError: a category is invalid, or there is none.
        UsageError: `class_names` contains a class twice.
    """
    problems = ProblemList(raw)
    for position, category in enumerate(raw.categories):
        if type(category.id) is not int or not isinstance(category.name, str) or not category.name.strip():
            problems.add(f"category {position} needs an integer 'id' and a string 'name'")
        elif abs(category.id) >= 2**31:
            problems.add(f"category {category.name!r} has id {category.id}: ids must be below 2147483648")
        elif options.label_map == "coco_id_minus_1" and not 1 <= category.id <= _LARGEST_ID:
            problems.add(
                f"category {category.name!r} has id {category.id}: label_map coco_id_minus_1 needs ids from 1 to "
                f"{_LARGEST_ID}. --label_map dense accepts any id and matches the classes of weights by name"
            )
    problems.raise_if_any()
    check_unique(raw, "category id", [category.id for category in raw.categories])
    _drop_unused_duplicates(raw)
    check_unique(
        raw,
        "category name",
        [category.name for category in raw.categories],
        ". msdet check --fix OUT merges them",
    )
    id_of = {category.name: category.id for category in sorted(raw.categories, key=lambda category: category.id)}
    known = list(options.class_names) or list(id_of)
    if not known:
        raise UserError(f"{raw.title} has no categories: there is no class to learn")
    if len(known) > MAX_CLASSES:
        raise UserError(f"{raw.title} has {len(known)} categories, more than {MAX_CLASSES}")
    if len(set(known)) < len(known):
        raise UsageError("class_names contains a class twice")
    absent = [name for name in known if name not in id_of]
    if absent:
        logger.warning("%s has no category %s: no box will have this class", raw.source, ", ".join(map(repr, absent)))
    if options.label_map == "coco_id_minus_1":
        name_of = {id_of[name]: name for name in known if name in id_of}
        ids = list(range(1, max(options.num_classes, *name_of, 0) + 1))
        return [name_of.get(number, UNUSED_CLASS) for number in ids], ids, {number: number - 1 for number in name_of}
    # A class missing from the file gets an unused id, so that its detections match no ground truth.
    used = set(id_of.values())
    spare = (number for number in chain(range(max(used, default=0) + 1, 2**31), range(1, 2**31)) if number not in used)
    ids = [id_of[name] if name in id_of else next(spare) for name in known]
    return known, ids, {id_of[name]: label for label, name in enumerate(known) if name in id_of}


def _drop_unused_duplicates(raw: RawAnnotations) -> None:
    """Drops a category without boxes if another category of the same name has boxes.

    Roboflow exports have a root category named after the project, which can be the name of a class too.
    """
    counts = Counter(category.name for category in raw.categories)
    if all(count == 1 for count in counts.values()):
        return
    used = {entry.category_id for entry in raw.annotations if type(entry.category_id) is int}
    unused = [c for c in raw.categories if counts[c.name] > 1 and c.id not in used]
    with_boxes = {category.name for category in raw.categories if category.id in used}
    dropped = [category for category in unused if category.name in with_boxes]
    for category in dropped:
        logger.warning(
            "%s: the category %r has two ids; ignoring %d, which no box uses",
            *(raw.source, category.name, category.id),
        )
    raw.categories = [category for category in raw.categories if category not in dropped]
