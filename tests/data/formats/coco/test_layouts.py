"""Finding the COCO file and the images of a split."""

import pytest

from msdet.data.formats.coco.layouts import LAYOUTS, find_split
from msdet.errors import UsageError, UserError


def make(root, layout, split):
    ann_file, image_dir = LAYOUTS[layout][split]
    (root / ann_file).parent.mkdir(parents=True, exist_ok=True)
    (root / ann_file).write_text("{}")
    (root / image_dir).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_layout_is_found(tmp_path, layout, split):
    make(tmp_path, layout, split)
    paths = find_split(tmp_path, split)
    assert paths.ann_file == tmp_path / LAYOUTS[layout][split][0]
    assert paths.image_dir == tmp_path / LAYOUTS[layout][split][1]
    assert find_split(str(tmp_path), split, layout=layout) == paths


def test_file_names_of_the_layouts():
    assert LAYOUTS["coco2014"]["val"] == ("annotations/instances_val2014.json", "val2014")
    assert LAYOUTS["coco2017"]["train"] == ("annotations/instances_train2017.json", "train2017")
    assert LAYOUTS["plain"]["val"] == ("annotations/val.json", "val")


def test_two_layouts_in_one_folder_are_ambiguous(tmp_path):
    make(tmp_path, "coco2014", "val")
    make(tmp_path, "coco2017", "val")
    with pytest.raises(UserError, match="twice, as coco2017 .* and coco2014 .*: set layout"):
        find_split(tmp_path, "val")
    assert find_split(tmp_path, "val", layout="coco2014").image_dir.name == "val2014"


def test_overrides(tmp_path):
    make(tmp_path, "coco2017", "train")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "mine.json").write_text("{}")
    assert find_split(tmp_path, "train", image_dir="pictures").ann_file.name == "instances_train2017.json"
    paths = find_split(tmp_path, "train", image_dir="pictures", ann_file=tmp_path / "mine.json")
    assert paths.ann_file == tmp_path / "mine.json"
    assert paths.image_dir == tmp_path / "pictures"
    absolute = find_split("", "val", image_dir=tmp_path / "pictures", ann_file=tmp_path / "mine.json")
    assert absolute == paths


def test_one_annotation_file_with_two_layouts_is_ambiguous(tmp_path):
    make(tmp_path, "coco2014", "val")
    make(tmp_path, "coco2017", "val")
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(UserError, match="twice"):
        find_split(tmp_path, "val", ann_file="mine.json")


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="not a folder") as caught:
        find_split(tmp_path / "nowhere", "train")
    for names in LAYOUTS.values():
        assert names["train"][0] in str(caught.value)
    with pytest.raises(UserError, match="data_dir is empty"):
        find_split("", "train")


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="contains no split 'val'") as caught:
        find_split(tmp_path, "val")
    assert "annotations/instances_val2014.json with val2014/" in str(caught.value)
    with pytest.raises(UserError) as caught:
        find_split(tmp_path, "val", ann_file="mine.json")
    assert "mine.json" in str(caught.value)


def test_an_incomplete_split_is_reported(tmp_path):
    make(tmp_path, "coco2017", "train")
    (tmp_path / "train2017").rmdir()
    with pytest.raises(UserError, match=r"image folder of split 'train' is missing: .*train2017"):
        find_split(tmp_path, "train")
    with pytest.raises(UserError, match="annotation file of split 'val' is missing"):
        find_split(tmp_path, "val", ann_file="no.json", image_dir="no")


def test_unknown_names(tmp_path):
    with pytest.raises(UsageError, match="layout 'voc'"):
        find_split(tmp_path, "train", layout="voc")
    with pytest.raises(UsageError, match="split 'training'"):
        find_split(tmp_path, "training")
