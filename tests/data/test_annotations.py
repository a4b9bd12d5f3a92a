"""Parsed annotations: locations in messages, file names, categories."""

from dataclasses import replace
from pathlib import Path

import pytest

from msdet.data.annotations import ParseProblem, RawAnnotations, leaves_folder, number_categories
from msdet.data.formats.coco.read import read_coco
from msdet.errors import UserError
from tests.data.conftest import coco_error


def test_only_the_first_problems_are_shown(coco):
    coco.add_image(1, boxes=[[1, 1, 0, 0]] * 10)
    text = coco_error(coco)
    assert "has 10 problems" in text
    assert "and 7 more" in text
    assert "annotation 3" in text
    assert "annotation 4" not in text


def test_line_numbers_of_indented_files(coco):
    coco.add_image(1, boxes=[[1, 1, 5, 5], [1, 1, 0, 5]])
    coco.write(indent=1)
    with pytest.raises(UserError) as caught:
        read_coco(coco.ann_file, coco.image_dir)
    line = int(str(caught.value).partition("(line ")[2].partition(")")[0])
    assert coco.ann_file.read_text().splitlines()[line - 1].strip() == '"id": 2,'


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.jpg", "..a.jpg", "a..b/c.jpg", "sub\\a.jpg"])
def test_names_inside_the_folder(name):
    assert not leaves_folder(name)


@pytest.mark.parametrize(
    "name", ["..", ".", "../a.jpg", "sub/../../a.jpg", "/etc/passwd", "..\\a.jpg", "C:\\a.jpg", "a\0b"]
)
def test_names_outside_the_folder(name):
    assert leaves_folder(name)


def test_category_ids_of_formats_without_ids():
    assert [category.id for category in number_categories(["dog", "tree"])] == [1, 2]
    assert [category.id for category in number_categories(["toothbrush", "person"])] == [90, 1]
    assert number_categories([]) == []


def test_problems_of_the_parser_are_raised_together():
    problems = [ParseProblem("malformed annotation", f"a.txt:{line}", "it is wrong") for line in range(1, 6)]
    raw = RawAnnotations(Path("data"), Path("data"), [], [], [], problems=problems)
    with pytest.raises(UserError) as caught:
        raw.raise_problems()
    assert str(caught.value) == (
        "folder data has 5 problems: a.txt:1: it is wrong; a.txt:2: it is wrong; a.txt:3: it is wrong; and 2 more"
    )
    replace(raw, problems=[]).raise_problems()
