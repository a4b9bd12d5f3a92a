"""One tiny dataset written in every annotation format."""

import numpy as np
import pytest

from msdet.data.build_dataset import build_dataset
from msdet.data.formats.format import SourceOptions
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from msdet.errors import UserError
from tests.data.conftest import write_image

NAMES = ("cat", "hot dog")
# image -> (width, height), boxes as left, top, right, bottom in px and a label
IMAGES = {
    "a": ((64, 48), [(1, 2, 11, 22, 0), (30, 4, 41, 14, 1)]),
    "b": ((80, 40), []),
    "c d": ((32, 64), [(0, 0, 32, 64, 1)]),
}


def expected():
    """Boxes and labels of each image, in the order of names."""
    return [([list(box[:4]) for box in boxes], [box[4] for box in boxes]) for _, boxes in IMAGES.values()]


def write_images(folder):
    for number, (name, (size, _)) in enumerate(IMAGES.items()):
        write_image(folder / f"{name}.jpg", *size, seed=number)


def voc_xml(name, size, boxes, difficult=()):
    objects = "".join(
        f"<object><name>{NAMES[label]}</name><difficult>{int(i in difficult)}</difficult><bndbox><xmin>{x + 1}</xmin>"
        f"<ymin>{y + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>\n"
        for i, (x, y, right, bottom, label) in enumerate(boxes)
    )
    width, height = size
    return (
        f"<annotation><filename>{name}.jpg</filename>\n<size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>\n{objects}</annotation>\n"
    )


def write_voc(root, lists=("train", "val")):
    write_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, (size, boxes) in IMAGES.items():
        plain = name.replace(" ", "_")
        (root / "JPEGImages" / f"{name}.jpg").rename(root / "JPEGImages" / f"{plain}.jpg")
        (root / "Annotations" / f"{plain}.xml").write_text(voc_xml(plain, size, boxes, difficult=(1,)))
    for part in lists:
        names = "".join(name.replace(" ", "_") + "\n" for name in IMAGES)
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text(names)
    return root


def write_txt(root, order="xyxy", first_class=0):
    write_images(root / "images")
    lines = []
    for name, (_, boxes) in IMAGES.items():
        words = [f"images/{name}.jpg"]
        for x, y, right, bottom, label in boxes:
            corners = (x, y, right, bottom) if order == "xyxy" else (y, x, bottom, right)
            words.append(",".join(map(str, (*corners, label + first_class))))
        lines.append(" ".join(words))
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return root


def yolo_lines(size, boxes):
    width, height = size
    return "".join(
        f"{label} {(x + right) / 2 / width!r} {(y + bottom) / 2 / height!r} {(right - x) / width!r} "
        f"{(bottom - y) / height!r}\n"
        for x, y, right, bottom, label in boxes
    )


def write_yolo(root, inner="images/train", labels="labels/train", yaml="train: images/train\nval: images/train\n"):
    write_images(root / inner)
    (root / labels).mkdir(parents=True)
    for name, (size, boxes) in IMAGES.items():
        if boxes:
            (root / labels / f"{name}.txt").write_text(yolo_lines(size, boxes))
    if yaml:
        (root / "data.yaml").write_text(f"{yaml}nc: 2\nnames: [cat, hot dog]\n")
    return root


def read(root, split="train", **options):
    """The dataset of a split, read in the format of `options` or the detected one."""
    return build_dataset(
        load_annotations(SourceOptions(str(root), **options), split), ReadOptions(options.get("class_names", ()))
    )


def message(root, split="train", **options):
    """The message of the error that reading a split raises."""
    with pytest.raises(UserError) as caught:
        read(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(dataset, kind):
    """Checks that a dataset has the images and boxes of `IMAGES`."""
    assert dataset.format == kind
    assert dataset.class_names == list(NAMES)
    assert len(dataset) == 3
    for sample, (boxes, labels) in zip(dataset.samples, expected(), strict=True):
        np.testing.assert_allclose(sample.boxes, np.reshape(boxes, (-1, 4)), atol=2e-6)
        assert sample.labels.tolist() == labels
        assert sample.image_path.is_file()
    assert [(sample.width, sample.height) for sample in dataset.samples] == [size for size, _ in IMAGES.values()]
