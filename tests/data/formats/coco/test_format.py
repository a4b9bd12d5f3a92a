"""Detection of COCO files, and loading through the format."""

from msdet.data.formats.coco.format import CocoFormat
from msdet.data.formats.format import SourceOptions


def test_detection(coco, tmp_path):
    coco.add_image(1)
    ann_file, _ = coco.write()
    found = CocoFormat()
    assert found.matches_file(ann_file) and found.matches_file(tmp_path / "absent.json")
    assert not found.matches_file(tmp_path / "absent.txt")
    for layout, split, expected in (("auto", "train", True), ("plain", "train", True), ("auto", "val", False),
                                    ("coco2017", "train", False)):  # fmt: skip
        assert found.matches_folder(SourceOptions(str(coco.root), layout=layout), split) == expected


def test_only_the_test_split_may_lack_annotations(coco):
    coco.add_image(1)
    del coco.content["annotations"]
    ann_file, image_dir = coco.write()
    options = SourceOptions("", str(ann_file), str(image_dir))
    assert len(CocoFormat().load(options, "test").images) == 1
