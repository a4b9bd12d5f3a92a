"""Small annotation and weight files that claim huge sizes are rejected without using much memory."""

import json
import pickle

import pytest

from tests.data.conftest import write_image
from tests.data.limited import limited

READ = """
from msdet.data.formats.format import SourceOptions
from msdet.data.open import load_annotations
from msdet.data.build_dataset import build_dataset
from msdet.data.read_options import ReadOptions
try:
    build_dataset(load_annotations(SourceOptions(sys.argv[1], *sys.argv[2:]), "train"), ReadOptions())
    print("read")
except UserError as error:
    print(error)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
assert grown < 50, f"{grown} MB"
"""
HUGE = 900_000_000
BOX = "0 0.5 0.5 0.2 0.2"
YAML = "train: images\nval: images\n"


def nested(levels, width=9):
    """A YAML text in which each alias expands to `width` times the one before."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n", f"*a{levels - 1}"


def merged(levels, width=9):
    lines = ["m0: &m0 {k: v}"]
    lines += [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * width)}]}}" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


DEEP, ALIAS = nested(40)
YOLO = {
    "a class number": (f"{HUGE} 0.5 0.5 0.2 0.2", "", "the class 900000000 is not one of the 1 classes"),
    "a class number of many digits": ("9" * 4000 + " 0.5 0.5 0.2 0.2", "", "99999' is not a class number"),
    "a number of classes": (BOX, YAML + f"nc: {HUGE}\n", "nc is '900000000'"),
    "a number of classes of many digits": (BOX, YAML + f"nc: {'9' * 5000}\n", "nc is '999"),
    "a path of aliases": (BOX, DEEP + f"path: {ALIAS}\n" + YAML, "path is a list"),
    "a split of aliases": (BOX, DEEP + f"train: {ALIAS}\nnames: [a]\n", "train is a list"),
    "names of aliases": (BOX, DEEP + YAML + f"names: {ALIAS}\n", "names is not a list of class names"),
    "a number of aliases": (BOX, DEEP + YAML + f"nc: {ALIAS}\n", "nc is a list"),
    "key points of aliases": (BOX, DEEP + YAML + f"names: [a]\nkpt_shape: {ALIAS}\n", "kpt_shape is a list"),
    "key points without end": (
        BOX,
        YAML + f"names: [a]\nkpt_shape: [{HUGE}, 3]\n",
        "kpt_shape is ['900000000', '3']"[:13],
    ),
    "merges": (BOX, merged(40) + YAML + "names: [a]\n", "read"),
    "an alias of itself": (BOX, "a: &a [*a]\npath: *a\n" + YAML, "data.yaml:1: not valid YAML"),
}


@pytest.mark.parametrize("name", YOLO)
def test_yolo(tmp_path, name):
    line, yaml, message = YOLO[name]
    write_image(tmp_path / "images" / "a.jpg", 32, 32)
    write_image(tmp_path / "images" / "b.jpg", 32, 32)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(line + "\n")
    (tmp_path / "labels" / "b.txt").write_text(BOX + "\n")
    flags = ["", "images"]
    if yaml:
        (tmp_path / "data.yaml").write_text(yaml)
        flags = []
    said = limited(READ, tmp_path, *flags)
    assert message in said and len(said) < 2000


@pytest.mark.parametrize("number", [HUGE, -HUGE, "9" * 4000])
def test_lists_of_boxes(tmp_path, number):
    write_image(tmp_path / "a.jpg", 32, 32)
    (tmp_path / "train.txt").write_text(f"a.jpg 1,2,11,12,{number}\n")
    said = limited(READ, tmp_path, "train.txt")
    assert "not an integer up to 10000" in said and len(said) < 9000


COCO = {
    "an area": ({"area": 10**39}, {}, "read"),
    "an area without end": ({"area": float("inf")}, {}, "read"),
    "a category id": ({"category_id": 2**31}, {"id": 2**31}, "ids must be below 2147483648"),
    "a category id of many digits": ({"category_id": 10**4000}, {"id": 10**4000}, "ids must be below 2147483648"),
    "the largest category id": ({"category_id": 2**31 - 1}, {"id": 2**31 - 1}, "read"),
    "a negative category id": ({"category_id": -(2**40)}, {"id": -(2**40)}, "ids must be below 2147483648"),
}


@pytest.mark.parametrize("name", COCO)
def test_coco(tmp_path, name):
    box, category, message = COCO[name]
    write_image(tmp_path / "train" / "a.jpg", 32, 32)
    (tmp_path / "annotations").mkdir()
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 32, "height": 32}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], **box}],
        "categories": [{"id": 1, "name": "cat", **category}],
    }
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    assert message in limited(READ, tmp_path)


def test_nested_marks_of_a_pickle_take_little_time(tmp_path):
    code = """
import time
from msdet.importers.torch_file import read_torch
began = time.process_time()
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_torch(path)
    except UserError as error:
        print(error)
print("seconds", time.process_time() - began)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
assert grown < 100, f"{grown} MB"
"""
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    for number, body in enumerate((b"(" * 100_000, b"]" + b"(" * 100_000 + b"e" * 100_000, b"}" * 100_000)):
        (tmp_path / f"{number}.pth").write_bytes(head + b"\x80\x02" + body + b".")
    said = limited(code, tmp_path)
    assert said.count(".pth") >= 3
