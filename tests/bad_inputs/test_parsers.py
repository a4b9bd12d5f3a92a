"""Fuzzing: for any bytes a parser succeeds or raises UserError. 150 examples per parser; 10,000 with --slow."""

import functools
import pickle
import pickletools
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msdet.config import load_config
from msdet.data.annotations import Category, ImageEntry, RawAnnotations, leaves_folder
from msdet.data.build_dataset import build_dataset
from msdet.data.formats.file_names import resolve_file_names
from msdet.data.formats.text_lines import class_names_in
from msdet.data.formats.txt import load_txt
from msdet.data.formats.voc.read import VocPart, load_voc
from msdet.data.formats.voc.xml_tree import parse_xml
from msdet.data.formats.yolo.data_yaml import read_yaml
from msdet.data.formats.yolo.read import load_yolo
from msdet.data.read_options import ReadOptions
from msdet.errors import UserError
from msdet.importers.darknet_file import read_darknet
from msdet.importers.torch_file import read_safetensors, read_torch
from msdet.ops.fonts import drawable
from tests.bad_inputs.test_data import XML
from tests.bad_inputs.workspace import encode, noise_image
from tests.importers import torch_files

NUMBERS = st.one_of(st.integers(-9, 999), st.floats(), st.sampled_from(["", "x", "1e999", "0x1", "١", "-0", "1_0"]))
TEXT = st.text(max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One image, in the places where the formats look for it."""
    root = tmp_path_factory.mktemp("parsers")
    for name in ("images/0.jpg", "0.jpg", "labels/none", "xml/none"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(noise_image()) if name.endswith("jpg") else b"")
    return root


def survives(request, strategy, parse):
    """Calls `parse` with many examples; it may raise UserError only."""
    many = request.config.getoption("--slow")
    checks = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ]

    @settings(max_examples=10_000 if many else 150, deadline=None, database=None, suppress_health_check=checks)
    @given(strategy)
    def check(example):
        try:
            parse(example)
        except UserError as error:
            assert str(error).strip()

    check()


def mutated(whole):
    """The bytes `whole` with some of them replaced, deleted or inserted."""

    def change(places):
        data = bytearray(whole)
        for share, kind, value in places:
            at = int(share * len(data))
            if kind == 0 and at < len(data):
                data[at] = value
            elif kind == 1:
                del data[at : at + value]
            else:
                data[at:at] = bytes([value])
        return bytes(data)

    place = st.tuples(st.floats(0, 1), st.integers(0, 2), st.integers(0, 255))
    return st.lists(place, min_size=1, max_size=4).map(change)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def test_lists_of_boxes(request, folder):
    box = st.lists(NUMBERS, min_size=3, max_size=6).map(lambda values: ",".join(map(str, values)))
    line = st.tuples(st.sampled_from(["0.jpg", "a b.jpg", "../0.jpg", "", "1,2.jpg"]), st.lists(box, max_size=3))
    lines = st.lists(line.map(lambda parts: " ".join((parts[0], *parts[1]))), max_size=4).map("\n".join)

    def parse(text):
        content = load_txt(write(folder / "list.txt", text), folder, num_classes=3)
        build_dataset(content, ReadOptions())

    survives(request, st.one_of(lines, TEXT, st.binary(max_size=80)), parse)


def test_voc(request, folder):
    words = XML.replace("<", " <").replace(">", "> ").split()
    shuffled = st.lists(st.one_of(st.sampled_from(words), NUMBERS.map(str)), max_size=40).map("".join)
    number = NUMBERS.map(str).filter(lambda text: "<" not in text)
    filled = st.tuples(number, number).map(lambda two: XML.replace(">5<", f">{two[0]}<").replace(">80<", f">{two[1]}<"))

    def parse(content):
        write(folder / "xml" / "0.xml", content)
        part = VocPart(None, folder / "xml", folder / "images")
        build_dataset(load_voc(folder / "xml", folder, [part]), ReadOptions())

    survives(request, st.one_of(mutated(XML.encode()), shuffled, filled, st.binary(max_size=80)), parse)


@pytest.mark.parametrize(("names", "key_points"), [(["red", "blue"], 0), ([], 0), (["red"], 4)])
def test_yolo_labels(request, folder, names, key_points):
    line = st.lists(NUMBERS, max_size=9).map(lambda values: " ".join(map(str, values)))
    lines = st.lists(line, max_size=4).map("\n".join)

    def parse(text):
        write(folder / "labels" / "0.txt", text)
        build_dataset(load_yolo(folder, folder, [folder / "images"], names, key_points), ReadOptions())

    survives(request, st.one_of(lines, TEXT, st.binary(max_size=80)), parse)


def test_lists_of_images(request, folder):
    """Lists of YOLO and VOC, with any lines in any encoding."""
    name = st.sampled_from(
        ["images/0.jpg", "0", "0.jpg", "0 -1", "../x", "data/images/0.jpg", "C:\\a\\0.jpg", "", "\ufeff0"]
    )
    text = st.lists(st.one_of(name, TEXT), max_size=4).map("\n".join)
    encoded = st.tuples(text, st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-8-sig"])).map(
        lambda two: two[0].encode(two[1], "surrogatepass")
    )

    def parse(data):
        path = write(folder / "list.txt", data)
        write(folder / "labels" / "0.txt", "0 0.5 0.5 0.2 0.2")
        for content in (
            lambda: load_yolo(folder, folder, [path], ["red"]),
            lambda: load_voc(path, folder, [VocPart(path, folder / "xml", folder / "images")]),
        ):
            try:
                for sample in build_dataset(content(), ReadOptions()).samples:
                    assert sample.image_path.is_file()
            except UserError as error:
                assert str(error).strip()

    survives(request, st.one_of(encoded, st.binary(max_size=80)), parse)


def test_names_of_classes(request, tmp_path):
    def parse(data):
        names = class_names_in([write(tmp_path / "classes.txt", data).parent])
        assert all(names) and len(set(names)) == len(names)

    survives(request, st.one_of(TEXT, st.lists(TEXT, max_size=4).map("\n".join), st.binary(max_size=80)), parse)


def test_names_of_files(request, folder):
    """For any name, the file that is read exists and is in the image folder."""
    part = st.sampled_from(["images", "IMAGES", "0.jpg", "0.JPG", "..", ".", "", "C:", "a", "%30.jpg", "%2e%2e", "%00"])
    join = st.sampled_from(["/", "\\", "//"])
    path = st.tuples(st.lists(part, max_size=5), join).map(lambda two: two[1].join(two[0]))

    def parse(name):
        content = RawAnnotations(folder / "x.json", folder, [ImageEntry(1, name)], [], [Category(1, "red")])
        resolve_file_names(content)
        found = content.images[0].file_name
        if found != name:
            assert (folder / found).is_file() and not leaves_folder(found)

    survives(request, st.one_of(path, TEXT), parse)


def test_fonts(request):
    survives(request, st.text(max_size=30), lambda text: drawable(drawable(text)) == drawable(text))


def test_xml_of_any_encoding(request):
    head = st.sampled_from(["gb2312", "GBK", "latin-1", "utf-8", "utf-16", "utf-7", "rot13", "zlib", "idna", "punycode",
                            "unicode_escape", "cp037", "x", "big5", "shift_jis", "euc-kr", "undefined"])  # fmt: skip
    data = st.tuples(head, st.one_of(st.binary(max_size=40), TEXT.map(lambda text: text.encode("gb18030", "ignore"))))

    def parse(two):
        try:
            parse_xml(f'<?xml version="1.0" encoding="{two[0]}"?><a>'.encode() + two[1] + b"</a>")
        except ValueError as error:
            assert "XML" in str(error) or "UTF-8" in str(error) or "entity" in str(error)

    survives(request, data, parse)


def test_yolo_yaml(request, folder):
    whole = b"path: .\ntrain: [images]\nval: images\nnc: 2\nnames: {0: red, 1: blue}\n"
    pairs = st.dictionaries(
        st.sampled_from(["path", "train", "val", "names", "nc", "kpt_shape"]), st.one_of(NUMBERS, TEXT)
    ).map(lambda content: "\n".join(f"{key}: {value}" for key, value in content.items()))

    def parse(text):
        read_yaml(write(folder / "data.yaml", text))

    survives(request, st.one_of(mutated(whole), pairs, TEXT), parse)


def test_darknet(request, tmp_path):
    header = st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4).map(lambda numbers: np.array(numbers, "<i4").tobytes())
    content = st.tuples(header, st.binary(max_size=40)).map(b"".join)

    def parse(data):
        file = read_darknet(write(tmp_path / "x.weights", data))
        assert file.values.dtype == np.float32

    survives(request, st.one_of(content, st.binary(max_size=60)), parse)


@functools.cache
def torch_bytes(save):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        torch_files.fake_torch(patch)
        value = torch_files.tensor("0", np.arange(12, dtype="f4").reshape(3, 4))
        getattr(torch_files, save)(Path(folder) / "x", {"state_dict": {"a": value}})
        return (Path(folder) / "x").read_bytes()


@pytest.mark.parametrize("save", ["save_zip", "save_legacy"])
def test_torch(request, tmp_path, save):
    def parse(data):
        before = set(sys.modules)
        try:
            for value in read_torch(write(tmp_path / "x.pth", data)).values():
                assert value.nbytes <= 10 * len(data) + 1000
        finally:
            # No module that a pickle names is imported.
            assert not {name for name in set(sys.modules) - before if name.split(".")[0] == "torch"}

    survives(request, mutated(torch_bytes(save)), parse)


def test_pickles(request, tmp_path):
    """Pickle programs of any operations in any order."""
    operations = [op.code.encode("latin1") for op in pickletools.opcodes]
    names = [
        b"cos\nsystem\n",
        b"cposix\nsystem\n",
        b"cbuiltins\neval\n",
        b"ccollections\nOrderedDict\n",
        b"X\x01\0\0\0a",
    ]
    program = st.lists(
        st.one_of(st.sampled_from(operations), st.sampled_from(names), st.binary(max_size=3)), max_size=30
    )
    data = program.map(lambda parts: b"\x80\x02" + b"".join(parts) + b".")

    def parse(data):
        read_torch(write(tmp_path / "x.pth", data))

    survives(request, st.one_of(data, st.builds(pickle.dumps, st.recursive(st.integers() | TEXT, st.lists))), parse)


def test_safetensors(request, tmp_path):
    def parse(data):
        read_safetensors(write(tmp_path / "x.safetensors", data))

    head = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    whole = len(head).to_bytes(8, "little") + head + bytes(12)
    survives(request, st.one_of(mutated(whole), st.binary(max_size=80)), parse)


def test_configurations(request, tmp_path):
    whole = Path("configs/yolov3_shapes.yaml").read_bytes() + b"\nmodel: yolov3\n"
    keys = st.sampled_from(["lr", "anchors", "class_names", "multi_scale", "mean", "augment", "base", "max_epoch", "x"])
    value = st.one_of(NUMBERS.map(str), TEXT, st.lists(NUMBERS, max_size=4).map(str))
    pairs = st.lists(st.tuples(keys, value), max_size=4).map(
        lambda content: "model: yolov3\n" + "\n".join(f"{key}: {value}" for key, value in content)
    )

    def parse(text):
        load_config(write(tmp_path / "c.yaml", text))

    survives(request, st.one_of(mutated(whole), pairs, TEXT), parse)


def test_flags(request):
    keys = st.sampled_from(["--lr", "--anchors", "--class_names", "--multi_scale", "--mean", "--augment", "--x"])
    words = st.lists(st.one_of(keys, TEXT, NUMBERS.map(str)), max_size=5)

    def parse(argv):
        try:
            load_config("configs/yolov3.yaml", argv)
        except SystemExit as ended:
            # The random flags asked for --help.
            assert ended.code == 0

    survives(request, words, parse)
