"""Which classes annotations have: names, category ids and labels."""

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
# Under coco_id_minus_1 each id up to the largest costs an output of the network.
_LARGEST_ID = MAX_CLASSES


def map_classes(content: RawAnnotations, options: ReadOptions) -> tuple[list[str], list[int], dict[int, int]]:
    """Names and category ids by label, and the label of each category id of the file that the config knows."""
    problems = ProblemList(content)
    for position, category in enumerate(content.categories):
        if type(category.id) is not int or not isinstance(category.name, str) or not category.name.strip():
            problems.add(f"category {position} needs an integer 'id' and a text 'name'")
        elif abs(category.id) >= 2**31:
            problems.add(f"category {category.name!r} has id {category.id}: ids lie below 2147483648")
        elif options.label_map == "coco_id_minus_1" and not 1 <= category.id <= _LARGEST_ID:
            problems.add(
                f"category {category.name!r} has id {category.id}: label_map coco_id_minus_1 needs ids from 1 to "
                f"{_LARGEST_ID}. --label_map dense takes any, and matches those of weights by their names"
            )
    problems.raise_if_any()
    check_unique(content, "category id", [category.id for category in content.categories])
    _leave_out_empty_twins(content)
    check_unique(
        content,
        "category name",
        [category.name for category in content.categories],
        ". msdet check --fix OUT makes one of them",
    )
    id_of = {category.name: category.id for category in sorted(content.categories, key=lambda category: category.id)}
    known = list(options.class_names) or list(id_of)
    if not known:
        raise UserError(f"{content.title} has no categories: it names no class, so that there is nothing to learn")
    if len(known) > MAX_CLASSES:
        raise UserError(f"{content.title} has {len(known)} categories, more than {MAX_CLASSES}")
    if len(set(known)) < len(known):
        raise UsageError("class_names names a class twice")
    absent = [name for name in known if name not in id_of]
    if absent:
        logger.warning("%s has no category %s: no box will carry it", content.source, ", ".join(map(repr, absent)))
    if options.label_map == "coco_id_minus_1":
        name_of = {id_of[name]: name for name in known if name in id_of}
        ids = list(range(1, max(options.num_classes, *name_of, 0) + 1))
        return [name_of.get(number, UNUSED_CLASS) for number in ids], ids, {number: number - 1 for number in name_of}
    # A class the file does not have gets an id the file does not use, so that its detections score as nothing.
    used = set(id_of.values())
    spare = (number for number in chain(range(max(used, default=0) + 1, 2**31), range(1, 2**31)) if number not in used)
    ids = [id_of[name] if name in id_of else next(spare) for name in known]
    return known, ids, {id_of[name]: label for label, name in enumerate(known) if name in id_of}


def _leave_out_empty_twins(content: RawAnnotations) -> None:
    """Of categories of one name those without a box go, if another has boxes: exports call their root, the
    supercategory of all classes, by the name of the project, which a class may have too."""
    times = Counter(category.name for category in content.categories)
    if all(count == 1 for count in times.values()):
        return
    used = {entry.category_id for entry in content.annotations if type(entry.category_id) is int}
    twins = [c for c in content.categories if times[c.name] > 1 and c.id not in used]
    with_boxes = {category.name for category in content.categories if category.id in used}
    gone = [category for category in twins if category.name in with_boxes]
    for category in gone:
        logger.warning(
            "%s: the category %r has two ids; %d, which no box has, is left out",
            *(content.source, category.name, category.id),
        )
    content.categories = [category for category in content.categories if category not in gone]
