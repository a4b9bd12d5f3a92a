"""Data sets as labelling programs, computers and people really write them, through the commands: each is read as it is
meant, or refused with a sentence that names the place and the remedy."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from msdet.tools import create_data
from msdet.tools.check import check
from tests.in_process import run

WIDTH, HEIGHT = 64, 48
# Of an image each: left, top, width, height in px, and the class.
BOXES = {"room": [(8, 6, 32, 24, 0), (0, 0, 16, 12, 1)], "street": [(16, 12, 32, 12, 1)]}
NAMES = ("cat", "dog")
YAML = "train: images/train\nval: images/train\nnames: [cat, dog]\n"


class Export:
    """A folder that a program has written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str, seed: int = 0) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
        assert cv2.imwrite(str(path), cv2.resize(noise, (WIDTH, HEIGHT)))

    def images(self, folder: str, names=BOXES, suffix: str = ".jpg") -> None:
        for seed, name in enumerate(names):
            self.image(f"{folder}/{name}{suffix}", seed)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def coco_content(file_name: Callable[[str], str] = lambda name: f"{name}.jpg") -> dict:
    entries = [(number, box) for number, boxes in enumerate(BOXES.values(), 1) for box in boxes]
    return {
        "images": [{"id": number, "file_name": file_name(name), "width": WIDTH, "height": HEIGHT}
                   for number, name in enumerate(BOXES, 1)],
        "annotations": [{"id": i, "image_id": number, "category_id": label + 1, "bbox": list(box), "iscrowd": 0}
                        for i, (number, (*box, label)) in enumerate(entries, 1)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def coco(change: Callable[[dict], object] = lambda content: None, images: str = "train", **options):
    def build(export: Export) -> None:
        export.images(images)
        content = coco_content(**options)
        change(content)
        export.write("annotations/train.json", json.dumps(content))

    return build


def yolo_line(box, more: str = "") -> str:
    x, y, w, h, label = box
    return f"{label} {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}{more}\n"


def yolo(yaml: str | bytes = YAML, files=(), images="images/train", labels="labels/train", more=lambda box: ""):
    def build(export: Export) -> None:
        export.images(images)
        for name, boxes in BOXES.items():
            export.write(f"{labels}/{name}.txt", "".join(yolo_line(box, more(box)) for box in boxes))
        if yaml:
            export.write("data.yaml", yaml)
        for name, content in files:
            export.write(name, content)

    return build


def voc_xml(name: str, boxes, class_names=NAMES) -> str:
    objects = "".join(
        f"<object><name>{class_names[label]}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>\n"
        for x, y, w, h, label in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}\n{objects}</annotation>\n"


def voc(listed: str | bytes = "room\nstreet\n", change=lambda text: text, names=BOXES, class_names=NAMES):
    def build(export: Export) -> None:
        export.images("JPEGImages", names)
        for name, boxes in zip(names, BOXES.values(), strict=False):
            text = change(voc_xml(name, boxes, class_names))
            export.write(f"Annotations/{name}.xml", text)
        export.write("ImageSets/Main/train.txt", listed)

    return build


def txt(lines: str, images: str = "images"):
    def build(export: Export) -> None:
        export.images(images)
        export.write("train.txt", lines)
        export.write("classes.txt", "cat\ndog\n")

    return build


TXT = "images/room.jpg 8,6,40,30,0 0,0,16,12,1\nimages/street.jpg 16,12,48,24,1\n"


@dataclass(frozen=True)
class Case:
    """An export, the flags it is given with, and what comes of it: boxes of all images, or the words of a refusal."""

    name: str
    build: Callable[[Export], None]
    flags: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    boxes: dict[str, list] | None = field(default_factory=lambda: BOXES)
    classes: tuple[str, ...] = NAMES
    code: int = 0


def refused(name: str, build: Callable[[Export], None], *says: str, flags: tuple[str, ...] = ()) -> Case:
    return Case(name, build, flags, says, None, (), 1)


def renamed(file_name: Callable[[str], str], images: str = "train"):
    return coco(file_name=file_name, images=images)


def twice(content: dict) -> None:
    content["images"].append({**content["images"][0], "id": 7})
    content["annotations"][0]["image_id"] = 7


LIST = ("--train_ann_file", "train.txt")
CASES = [
    Case("coco", coco()),
    # Names of files.
    Case("letter case", renamed(lambda name: f"{name}.JPG".upper()), says=("ROOM.JPG -> room.jpg",)),
    Case("backslashes", renamed(lambda name: f"a\\{name}.jpg", "train/a"), says=("a/room.jpg",)),
    Case("the folder once more", renamed(lambda name: f"train/{name}.jpg"), says=("train/room.jpg -> room.jpg",)),
    Case("paths of another computer", renamed(lambda name: f"C:\\Users\\anna\\train\\{name}.jpg")),
    Case("absolute paths of another computer", renamed(lambda name: f"/home/anna/train/{name}.jpg")),
    Case("out and in again", renamed(lambda name: f"../train/{name}.jpg")),
    Case("escaped blanks", lambda export: (coco(file_name=lambda name: f"the%20{name}.jpg")(export),
         export.images("train", ["the room", "the street"])), says=("the%20room.jpg -> the room.jpg",)),
    Case("two signs for an accent", lambda export: (
         coco(file_name=lambda name: unicodedata.normalize("NFD", f"é{name}.jpg"))(export),
         export.images("train", ["éroom", "éstreet"])), says=("2 file names differ from",)),
    refused("a name that may mean two files", lambda export: (coco(file_name=lambda name: f"{name}.JPG")(export),
            export.image("train/Room.jpg")), "1 of 2 images", "are missing"),
    refused("in another folder", renamed(lambda name: f"{name}.jpg", "train/day"), "day/room.jpg exists"),
    refused("out of the folder", renamed(lambda name: f"../secret/{name}.jpg"), "points outside the image folder"),
    refused("another suffix", renamed(lambda name: f"{name}.png"), "are missing in", "room.jpg exists"),
    refused("a class without a name", coco(lambda c: c["categories"][0].update(name=" ")), "a string 'name'"),
    # COCO files.
    Case("a file under two ids", coco(twice), says=("room.jpg (1, 7)", "check --fix OUT"),
         boxes={**BOXES, "room": BOXES["room"]}),
    refused("shares of the image", coco(lambda c: [a.update(bbox=[a["bbox"][0] / 64, a["bbox"][1] / 48,
            a["bbox"][2] / 64, a["bbox"][3] / 48]) for a in c["annotations"]]), "normalised coordinates", "multiply"),
    Case("a root category of a class's name", coco(lambda c: c["categories"].insert(0, {"id": 0, "name": "dog",
         "supercategory": "none"})), says=("two ids; ignoring 0, which no box uses",)),
    refused("no categories", coco(lambda c: c.update(annotations=[], categories=[])), "train.json has no categories"),
    refused("a huge category id", coco(lambda c: c["categories"][0].update(id=2**31)), "'cat' has id 2147483648"),
    Case("an area beyond all numbers", lambda export: (coco()(export), export.write("annotations/train.json",
         json.dumps(coco_content()).replace('"iscrowd"', '"area": 1e400, "iscrowd"'))), says=("areas are missing",)),
    # YOLO.
    Case("yolo", yolo()),
    Case("names that YAML takes for truth", yolo(YAML.replace("[cat, dog]", "[no, 1.10]")), classes=("no", "1.10")),
    Case("names by number", yolo(YAML.replace("[cat, dog]", "{0: cat, 1: dog}"))),
    Case("a mark at the start of data.yaml", yolo(("\ufeff" + YAML).encode())),
    Case("classes.txt beside images/ and labels/", yolo("", [("classes.txt", "cat\ndog\n")]),
         ("--train_image_dir", "images/train")),
    Case("classes.txt among the labels", yolo("", [("labels/train/classes.txt", "cat\r\ndog\r\n")])),
    Case("classes.txt over the labels", yolo("", [("labels/classes.txt", "\ufeffcat\ndog")])),
    Case("obj.names of darknet", yolo("", [("obj.names", "cat\ndog\n")])),
    Case("no names at all", yolo(""), classes=("0", "1"), says=("class numbers 0 to 1 as names",)),
    refused("an empty name between", yolo("", [("classes.txt", "cat\n\ndog\n")]), "classes.txt:2 is empty"),
    refused("a name that stands twice", yolo("", [("classes.txt", "cat\ncat\n")]), "classes.txt:2: the class 'cat'"),
    Case("a list of paths", yolo("", [("train.txt", "images/train/room.jpg\nimages/train/street.jpg\n"),
         ("classes.txt", "cat\ndog\n")]), LIST),
    Case("a list of Windows in UTF-16", yolo("", [("classes.txt", "cat\ndog\n"), ("train.txt",
         "images\\train\\room.jpg\r\nimages\\train\\street.jpg\r\n".encode("utf-16"))]), LIST),
    Case("a list of darknet", yolo("", [("train.txt", "data/obj_train_data/room.jpg\ndata/obj_train_data/street.jpg\n"),
         ("obj.names", "cat\ndog\n")], "obj_train_data", "obj_train_data"), LIST),
    refused("a list of paths taken for boxes", yolo("", [("train.txt", "images/train/room.jpg\n")]),
            "1 images but no box", "--dataset yolo", flags=(*LIST, "--dataset", "txt")),
    Case("key points of two numbers", yolo(YAML + "kpt_shape: [2, 2]\n", more=lambda box: " 0.1 0.2 0.3 0.4")),
    Case("key points of three numbers", yolo(YAML + "kpt_shape: [2, 3]\n", more=lambda box: " 0.1 0.2 2 0.3 0.4 0")),
    refused("other key points than told", yolo(YAML + "kpt_shape: [3, 2]\n", more=lambda box: " 0.1 0.2"),
            "room.txt:1", "6 more from kpt_shape"),
    refused("an odd number of values", yolo(more=lambda box: " 0.1 0.2 2"), "room.txt:1", "where data.yaml has"),
    refused("a class number beyond all", yolo("", [("labels/train/room.txt", "900000000 0.5 0.5 0.1 0.1\n")]),
            "room.txt:1: the class 900000000"),
    refused("as many classes", yolo("train: images/train\nval: images/train\nnc: 900000000\n"), "nc is '900000000'"),
    refused("aliases without end", yolo("a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\npath: *c\n" + YAML),
            "path is a list, expected a string"),
    Case("letter case in a list", yolo("", [("train.txt", "images/train/ROOM.JPG\nimages/train/street.jpg\n"),
         ("classes.txt", "cat\ndog\n")]), LIST),
    Case("letter case of label files", lambda export: (yolo()(export), [path.rename(path.with_suffix(".TXT")) for path
         in (export.root / "labels" / "train").iterdir()])),
    Case("folders in capitals", yolo(YAML.replace("images", "Images"), images="Images/train", labels="Labels/train")),
    Case("backslashes in data.yaml", yolo(YAML.replace("/", "\\"))),
    Case("paths of Colab", yolo(YAML.replace("images", "/content/data/images")), says=("does not exist, using",)),
    Case("labels without an image", yolo(files=[("labels/train/photo.txt", "0 0.5 0.5 0.1 0.1\n"),
         ("images/train/photo.heic", "heic")]), says=("1 label files have no image", "photo.txt")),
    refused("a class that stands twice", yolo(YAML.replace("dog", "cat")), "names has the class 'cat' twice"),
    refused("a list of images that are nowhere", yolo("", [("train.txt", "/nowhere/a.jpg\n")]),
            "none of 1 images exists, e.g. /nowhere/a.jpg", flags=LIST),
    refused("a .data file", yolo("", [("obj.data", "train = train.txt\n")]), "is a darknet data file",
            flags=("--train_ann_file", "obj.data")),
    # VOC.
    Case("voc", voc()),
    Case("names with blanks", voc("room (1)\n", names=["room (1)", "room"]), boxes={"room (1)": BOXES["room"]}),
    Case("marks of one class", voc("room 1\nstreet -1\n"), boxes={"room": BOXES["room"]}),
    Case("suffixes in a list", voc("room.jpg\nstreet.xml\n")),
    Case("a list of Windows", voc("\ufeffroom\r\nstreet\r\n".encode())),
    Case("a list in UTF-16", voc("room\nstreet\n".encode("utf-16"))),
    refused("two boxes in an object", voc(change=lambda text: text.replace("</bndbox>", "</bndbox><bndbox/>", 1)),
            "room.xml:2: an object has a second <bndbox> at line 2"),
    refused("a corner that stands twice", voc(change=lambda text: text.replace("</xmin>", "</xmin><xmin>3</xmin>", 1)),
            "a second <xmin>"),
    Case("gb2312", voc(change=lambda text: ('<?xml version="1.0" encoding="gb2312"?>' + text).encode("gbk"),
         class_names=("狗", "犇")), classes=("狗", "犇")),
    Case("latin-1", voc(change=lambda text: ("<?xml version='1.0' encoding='iso-8859-1'?>" + text).encode("latin-1"),
         class_names=("chatté", "ça")), classes=("chatté", "ça")),
    refused("an unknown encoding", voc(change=lambda text: '<?xml version="1.0" encoding="x-unknown"?>' + text),
            "'x-unknown' is unknown: save it as UTF-8"),
    refused("another encoding than told", voc(change=lambda text: text.encode("gbk"), class_names=("狗", "犇")),
            "save it as UTF-8"),
    # Lists of boxes.
    Case("txt", txt(TXT), LIST),
    Case("absolute paths", lambda export: txt(TXT.replace("images/", f"{export.root}/images/"))(export), LIST),
    refused("a class number beyond all in a list", txt(TXT.replace(",1\n", ",900000000\n")),
            "train.txt:1", "not an integer up to 10000", flags=LIST),
]  # fmt: skip


def convert(root: Path, out: Path, *flags: str) -> int:
    return run(
        create_data.main, "--config", "configs/yolov3.yaml", "--num_classes", 0, "--to", "coco", "--splits", "train",
        "--data_dir", root, "--output", out, *flags,
    )  # fmt: skip


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_programs_write(case, tmp_path, capsys, caplog):
    export = Export(tmp_path / "export")
    case.build(export)
    code = convert(export.root, tmp_path / "out", *case.flags)
    captured = capsys.readouterr()
    said = captured.out + captured.err + caplog.text
    assert code == case.code, said
    for words in case.says:
        assert words in said
    assert len(said) < 8000 and "Traceback" not in said
    if case.boxes is None:
        return
    written = json.loads((tmp_path / "out" / "train.json").read_text())
    names = {category["id"]: category["name"] for category in written["categories"]}
    assert sorted(names.values()) == sorted(case.classes)
    found = [(*np.round(a["bbox"], 3).tolist(), names[a["category_id"]]) for a in written["annotations"]]
    wanted = [(*map(float, box), case.classes[label]) for boxes in case.boxes.values() for *box, label in boxes]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert all(any(export.root.rglob(Path(image["file_name"]).name)) for image in written["images"])


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("case", [case for case in CASES if case.code], ids=lambda case: case.name)
def test_check_finds_what_reading_refuses(case, tmp_path, capsys):
    export = Export(tmp_path / "export")
    case.build(export)
    flags = ("--config", "configs/yolov3_shapes.yaml", "--splits", "train", "--num_parallel_workers", 1)
    assert run(check.main, *flags, "--data_dir", export.root, *case.flags) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err


@pytest.mark.usefixtures("at_root")
def test_fix_puts_the_entries_of_one_file_together(tmp_path, capsys):
    export = Export(tmp_path / "export")
    coco(twice)(export)
    flags = ("--config", "configs/yolov3_shapes.yaml", "--splits", "train", "--num_parallel_workers", 1)
    assert run(check.main, *flags, "--data_dir", export.root, "--fix", tmp_path / "fixed") == 1
    assert "room.jpg has several image ids, 1, 7" in capsys.readouterr().out
    fixed = json.loads((tmp_path / "fixed" / "train.json").read_text())
    assert [image["id"] for image in fixed["images"]] == [1, 2]
    assert sorted((a["image_id"], *a["bbox"]) for a in fixed["annotations"]) == [
        (1, 0, 0, 16, 12), (1, 8, 6, 32, 24), (2, 16, 12, 32, 12)
    ]  # fmt: skip


@pytest.mark.usefixtures("at_root")
def test_fix_writes_the_names_of_the_files(tmp_path, capsys):
    export = Export(tmp_path / "export")
    renamed(lambda name: f"train/{name}.JPG")(export)
    flags = ("--config", "configs/yolov3_shapes.yaml", "--splits", "train", "--num_parallel_workers", 1)
    assert run(check.main, *flags, "--data_dir", export.root, "--fix", tmp_path / "fixed") == 0
    assert "train/room.JPG does not exist; room.jpg is read" in capsys.readouterr().out
    fixed = json.loads((tmp_path / "fixed" / "train.json").read_text())
    assert [image["file_name"] for image in fixed["images"]] == ["room.jpg", "street.jpg"]


@pytest.mark.usefixtures("at_root")
def test_linked_folders_are_read_once(tmp_path, capsys):
    export = Export(tmp_path / "export")
    yolo()(export)
    store = Export(tmp_path / "store")
    yolo("", images="images", labels="labels")(store)
    (export.root / "images" / "train" / "camera").symlink_to(store.root / "images")
    (export.root / "labels" / "train" / "camera").symlink_to(store.root / "labels")
    (export.root / "images" / "train" / "up").symlink_to(export.root)
    assert convert(export.root, tmp_path / "out") == 0
    written = json.loads((tmp_path / "out" / "train.json").read_text())
    assert len(written["images"]) == 4 and len(written["annotations"]) == 6


@pytest.mark.usefixtures("at_root")
def test_a_list_may_name_images_of_another_folder(tmp_path):
    store, project = Export(tmp_path / "store"), Export(tmp_path / "project")
    yolo("", images="images", labels="labels")(store)
    project.write("data.yaml", "train: train.txt\nval: train.txt\nnames: [cat, dog]\n")
    project.write("train.txt", f"../store/images/room.jpg\n{store.root}/images/street.jpg\n")
    assert convert(project.root, tmp_path / "out") == 0
    written = json.loads((tmp_path / "out" / "train.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["store/images/room.jpg", "store/images/street.jpg"]
    assert len(written["annotations"]) == 3


@pytest.mark.usefixtures("at_root")
def test_polygons_that_could_be_key_points_are_warned_of(tmp_path, caplog):
    def points(box):
        x, y, w, h, _ = box
        return f" {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {(x + w / 4) / WIDTH} {(y + h / 3) / HEIGHT}"

    export = Export(tmp_path / "export")
    yolo(more=points)(export)
    assert convert(export.root, tmp_path / "out") == 0
    assert "all lines of 9 numbers" in caplog.text and "add kpt_shape" in caplog.text
    caplog.clear()
    export.write("labels/train/street.txt", "1 0.25 0.25 0.5 0.25 0.5 0.5\n")
    assert convert(export.root, tmp_path / "out2") == 0
    assert "kpt_shape" not in caplog.text


@pytest.mark.usefixtures("at_root")
def test_fix_warns_that_masks_are_not_written(tmp_path, capsys):
    export = Export(tmp_path / "export")
    coco(lambda content: [a.update(segmentation=[[1, 1, 9, 1, 9, 9]]) for a in content["annotations"]])(export)
    flags = ("--config", "configs/yolov3_shapes.yaml", "--splits", "train", "--num_parallel_workers", 1)
    assert run(check.main, *flags, "--data_dir", export.root, "--fix", tmp_path / "fixed") == 0
    assert "3 annotations have masks; detectors read only the boxes" in capsys.readouterr().out
    assert '"removed"' in (tmp_path / "fixed" / "train.changes.jsonl").read_text()
