"""Invalid annotations of all formats and invalid images: exit code 1, and a message with file, image and box."""

import json
import shutil

import pytest

from tests.bad_inputs.workspace import Case, encode, noise_image, run_case


def coco(name, change, *fragments):
    return Case(name, "train", (), 1, ("train.json", *fragments), lambda w: w.coco(change))


def raw(name, content, *fragments):
    def modify(workspace):
        workspace.write("data/annotations/train.json", content)

    return Case(name, "train", (), 1, ("train.json", *fragments), modify)


def put(where, index, **values):
    return lambda content: content[where][index].update(values)


def without(where, index, key):
    return lambda content: content[where][index].pop(key)


def again(where, index, **values):
    return lambda content: content[where].append({**content[where][index], **values})


def both(*changes):
    return lambda content: [change(content) for change in changes]


COCO = [
    raw("an empty file", "", "is empty"),
    raw("no JSON", '{"images": [}', "is not JSON", "column"),
    raw("no text", b"\xff\xfe{}", "train.json"),
    raw("a list", "[]", "not a COCO annotation file"),
    raw("nothing in it", "{}", "'images'"),
    raw("no images", '{"images": [], "annotations": [], "categories": []}', "lists no images"),
    raw("no list of images", '{"images": 3, "annotations": [], "categories": []}', "not a COCO annotation file"),
    raw("brackets without end", "[" * 100_000, "train.json"),
    coco("no annotations", lambda content: content.pop("annotations"), "'annotations'"),
    coco("a box outside its image", put("annotations", 0, bbox=[200, 10, 20, 20]), "annotation 1", "exceeds its image"),
    coco("a box of no area", put("annotations", 0, bbox=[10, 10, 0, 20]), "annotation 1", "has no area"),
    coco("a negative box", put("annotations", 0, bbox=[10, 10, -5, 20]), "negative width"),
    coco("a box of three numbers", put("annotations", 0, bbox=[10, 10, 5]), "not four finite numbers"),
    coco("a box of words", put("annotations", 0, bbox=["10", "10", "5", "5"]), "not four finite numbers"),
    coco("a box of NaN", put("annotations", 0, bbox=[float("nan"), 10, 5, 5]), "not four finite numbers"),
    coco("a box without end", put("annotations", 0, bbox=[1, 10, 10**400, 5]), "not four finite numbers"),
    coco("no box", without("annotations", 0, "bbox"), "annotation 1", "'bbox' is missing"),
    coco("an unknown image", put("annotations", 0, image_id=99), "no image has the id 99"),
    coco("an id as text", put("annotations", 0, image_id="0"), "integer and string ids differ"),
    coco("a list as id", put("annotations", 0, image_id=[0]), "annotation 1"),
    coco("an unknown category", put("annotations", 0, category_id=77), "no category has the id 77"),
    coco("an iscrowd of 2", put("annotations", 0, iscrowd=2), "iscrowd is 2"),
    coco("two annotations of one id", again("annotations", 0), "annotation id 1 occurs 2 times"),
    coco("two images of one id", again("images", 0), "image id 0 occurs 2 times"),
    coco("two categories of one id", again("categories", 0, name="green"), "category id 3 occurs 2 times"),
    coco("two categories of one name", both(again("categories", 0, id=9), put("annotations", 0, category_id=9)),
         "category name 'red' occurs 2 times. msdet check --fix OUT merges them"),
    coco("an image without id", without("images", 0, "id"), "image 0 has no id"),
    coco("an image without name", without("images", 0, "file_name"), "has no file_name"),
    coco("a size of text", put("images", 0, width="wide"), "has width 'wide'"),
    coco("a size without end", put("images", 0, width=float("inf")), "has width inf"),
    coco("a negative size", put("images", 0, height=-60), "height -60"),
    coco("a category without name", without("categories", 0, "name"), "category 0 needs"),
    coco("a path that leaves the folder", put("images", 0, file_name="../val/0.jpg"), "points outside the image"),
    coco("an absolute path", put("images", 0, file_name="/etc/passwd"), "points outside the image folder"),
    coco("a path of another system", put("images", 0, file_name="..\\val\\0.jpg"), "points outside the image folder"),
    coco("a zero in a name", put("images", 0, file_name="a\0.jpg"), "points outside the image folder"),
    coco("an image that is missing", put("images", 0, file_name="none.jpg"), "1 of 4 images", "none.jpg"),
    Case("a class the configuration lacks", "train", ("--class_names=red,green",), 1, ("'blue'",)),
    Case("another number of classes", "train", ("--num_classes=7",), 1, ("num_classes", "7", "2 categories")),
    Case("no folder of images", "train", (), 1, ("data/train",), lambda w: shutil.rmtree(w.data / "train")),
    Case("two forms of annotations", "train", (), 1, ("2 formats",),
         lambda w: [w.write(f"data/{name}", "") for name in ("Annotations/a.xml", "ImageSets/Main/train.txt")]),
]  # fmt: skip

XML = (
    "<annotation><filename>0.jpg</filename><size><width>80</width><height>60</height></size>"
    "<object><name>dog</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
    "</annotation>"
)


def voc(name, old, new, *fragments, lists="0\n"):
    """A VOC dataset of one image, with a replacement in its XML file."""

    def modify(workspace):
        shutil.rmtree(workspace.data)
        for split in ("train", "trainval", "val", "test"):
            workspace.write(f"data/ImageSets/Main/{split}.txt", lists)
        workspace.write("data/Annotations/0.xml", XML.replace(old, new) if isinstance(new, str) else new)
        workspace.write("data/JPEGImages/0.jpg", encode(noise_image()))

    return Case(name, "train", (), 1, fragments, modify)


VOC = [
    voc("half an XML file", "</annotation>", "", "0.xml", "not XML"),
    voc("an XML file of bytes", "", b"\xff\x00\x01", "0.xml", "not XML"),
    voc("an empty XML file", "", b"", "0.xml", "not XML"),
    voc("entities without end", "<annotation>", '<!DOCTYPE a [<!ENTITY b "b">]><annotation>', "0.xml", "an entity"),
    voc("a file from outside", "<annotation>", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>',
        "0.xml", "an entity"),
    voc("another root", "annotation>", "note>", "0.xml", "<note>, not <annotation>"),
    voc("no number", "<xmin>5<", "<xmin>left<", "0.xml:1", "<xmin> is 'left', not a number"),
    voc("no corner", "<ymax>40</ymax>", "", "0.xml:1", "<bndbox> has no <ymax>"),
    voc("no name", "<name>dog</name>", "", "0.xml:1", "an object has no <name>"),
    voc("a box outside", "<xmax>30<", "<xmax>300<", "exceeds its image"),
    voc("a box turned over", "<xmax>30<", "<xmax>2<", "0.xml:1"),
    voc("a box of NaN", "<xmin>5<", "<xmin>nan<", "not four finite numbers"),
    voc("a name that leaves the folder", "", "", "train", "../0", lists="../0\n"),
    voc("a name without file", "", "", "1.xml, listed in", "is missing", lists="0\n1\n"),
    voc("an empty list", "", "", "lists no images", lists="\n"),
]  # fmt: skip


def yolo(name, label, *fragments, yaml="path: .\ntrain: images/train\nval: images/train\nnames: [red, blue]\n"):
    """A YOLO dataset of one image with this label file."""

    def modify(workspace):
        shutil.rmtree(workspace.data)
        workspace.write("data/data.yaml", yaml)
        workspace.write("data/images/train/0.jpg", encode(noise_image()))
        workspace.write("data/labels/train/0.txt", label)

    return Case(name, "train", (), 1, fragments, modify)


YOLO = [
    yolo("too few numbers", "0 0.5 0.5 0.1\n", "0.txt:1"),
    yolo("a word", "0 0.5 0.5 wide 0.1\n", "0.txt:1"),
    yolo("pixels for shares", "0 40 30 20 10\n", "0.txt:1"),
    yolo("a class beyond the names", "7 0.5 0.5 0.1 0.1\n", "0.txt:1", "7"),
    yolo("a negative class", "-1 0.5 0.5 0.1 0.1\n", "0.txt:1"),
    yolo("no text", b"\xff\xfe\x00", "0.txt is not text"),
    yolo("NaN", "0 nan 0.5 0.1 0.1\n", "0.txt:1"),
    yolo("no area", "0 0.5 0.5 0 0.1\n", "0.txt:1"),
    yolo("no YAML", "0 0.5 0.5 0.1 0.1\n", "data.yaml", yaml="train: [images\nnames: 3"),
    yolo("another number of names", "0 0.5 0.5 0.1 0.1\n", "data.yaml: nc is 3, but names has 2 classes",
         yaml="train: images/train\nval: images/train\nnames: [red, blue]\nnc: 3\n"),
    yolo("a Python object", "0 0.5 0.5 0.1 0.1\n", "data.yaml",
         yaml="train: images/train\nval: images/train\nnames: !!python/object/apply:os.system ['touch here']\n"),
    yolo("a folder outside", "0 0.5 0.5 0.1 0.1\n", "",
         yaml="train: /etc\nval: images/train\nnames: [red, blue]\n"),
]  # fmt: skip


def txt(name, line, *fragments):
    """A list of boxes with one line."""
    flags = ("--train_ann_file={root}/list.txt", "--train_image_dir={root}/data/train")
    return Case(name, "train", flags, 1, ("list.txt", *fragments), lambda w: w.write("list.txt", line))


TXT = [
    txt("an empty list", "\n\n"),
    txt("no text", b"\xff\xfe\x00", "is not text"),
    txt("four numbers", "0.jpg 1,2,30,40\n", "list.txt:1", "has 4 values"),
    txt("a word", "0.jpg 1,2,30,wide,0\n", "list.txt:1", "not a number"),
    txt("a class that is none", "0.jpg 1,2,30,40,dog\n", "list.txt:1", "not an integer"),
    txt("a negative class", "0.jpg 1,2,30,40,-3\n", "list.txt:1"),
    txt("a box outside", "0.jpg 1,2,300,40,0\n", "list.txt:1", "exceeds its image"),
    txt("a box of no area", "0.jpg 1,2,1,40,0\n", "list.txt:1", "no area"),
    txt("NaN", "0.jpg nan,2,30,40,0\n", "list.txt:1", "finite"),
    txt("a path that leaves the folder", "../val/0.jpg 1,2,30,40,0\n", "points outside the image folder"),
    txt("an image that is missing", "none.jpg 1,2,30,40,0\n", "none.jpg"),
    txt("boxes without image", "1,2,30,40,0\n", "list.txt:1", "no path"),
    txt("an image twice", "0.jpg 1,2,30,40,0\n0.jpg 1,2,30,40,0\n", "occurs 2 times"),
]


def png_of(width, height):
    """A PNG with this size in its header."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of(width, height):
    """A TIFF with this size in its directory."""
    import struct

    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 104


def image(name, content, *fragments, flags=()):
    """All four images have this content, so that the first batch contains one; the annotations have no sizes."""

    def modify(workspace):
        workspace.coco(lambda content: [entry.update(width=None, height=None) for entry in content["images"]])
        for i in range(4):
            workspace.write(f"data/train/{i}.jpg", content)

    return Case(name, "train", flags, 1, (".jpg", *fragments), modify)


def resized(workspace):
    for i in range(4):
        workspace.write(f"data/train/{i}.jpg", encode(noise_image(size=(50, 40))))


def folders(workspace):
    for i in range(4):
        (workspace.data / f"train/{i}.jpg").unlink()
        (workspace.data / f"train/{i}.jpg").mkdir()


def circle(workspace):
    for i in range(4):
        (workspace.data / f"train/{i}.jpg").unlink()
        (workspace.data / f"train/{i}.jpg").symlink_to(f"{i}.jpg")


IMAGES = [
    image("an empty image", b"", "is empty"),
    image("no image", b"this is no image at all", "not a supported image"),
    image("half an image", encode(noise_image())[:400], "truncated"),
    image("the start of a JPEG", b"\xff\xd8\xff", ".jpg"),
    image("half a PNG", encode(noise_image(), ".png")[:200], ".jpg"),
    image("a decompression bomb", png_of(60_000, 60_000), "60000x60000 pixels", "max_image_pixels=178956970"),
    image("a bomb of another kind", tiff_of(20_000, 20_000), "20000x20000 pixels", "max_image_pixels"),
    image("more pixels than wanted", encode(noise_image()), "80x60 pixels", "max_image_pixels=1000",
          flags=("--max_image_pixels=1000",)),
    Case("another size than annotated", "train", (), 1, ("40x50 pixels", "its annotation has 80x60"), resized),
    Case("folders in the place of images", "train", (), 1, (".jpg",), folders),
    Case("links in a circle", "train", (), 1, (".jpg",), circle),
]  # fmt: skip


@pytest.mark.parametrize("case", [*COCO, *VOC, *YOLO, *TXT], ids=lambda case: case.name)
def test_annotations(case, good, tmp_path, capsys):
    run_case(case, good, tmp_path, capsys)


@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_images(case, good, tmp_path, capsys):
    run_case(case, good, tmp_path, capsys)


@pytest.mark.parametrize("command", ["check", "create_data"])
def test_tools_report_the_same_problems(command, good, tmp_path, capsys):
    """A bad box ends both commands with exit code 1; nothing is written."""
    modify = put("annotations", 0, bbox=[200, 10, 20, 20])
    case = Case(command, command, (), 1, (), lambda w: w.coco(modify))
    run_case(case, good, tmp_path, capsys)
    assert json.loads((tmp_path / "data/annotations/train.json").read_text())["annotations"][0]["bbox"][0] == 200
