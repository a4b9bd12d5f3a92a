"""Finding the VOC annotations of a split."""

from tests.data import all_formats as formats
from tests.data.all_formats import check, message, read


def test_a_devkit_of_two_years(tmp_path):
    formats.write_voc(tmp_path / "VOCdevkit" / "VOC2007", ("trainval", "test"))
    formats.write_voc(tmp_path / "VOCdevkit" / "VOC2012", ("train", "val", "trainval"))
    for path in (tmp_path / "VOCdevkit" / "VOC2012").rglob("a.*"):
        path.rename(path.with_name(f"2012_a{path.suffix}"))
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text("2012_a\n")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        dataset = read(root)
        assert [sample.image_id for sample in dataset.samples] == ["a", "b", "c_d", "2012_a"]
        assert all(sample.image_path.is_file() for sample in dataset.samples)
        assert [sample.image_id for sample in read(root, "val").samples] == ["a", "b", "c_d"]
    assert "image id 'a' occurs 2 times" in message(tmp_path, dataset="voc0712plus")


def test_an_export_with_xml_files_next_to_the_images(tmp_path):
    formats.write_images(tmp_path / "train")
    for name, (size, boxes) in formats.IMAGES.items():
        (tmp_path / "train" / f"{name}.xml").write_text(formats.voc_xml(name, size, boxes))
    check(read(tmp_path), "voc")
    assert "contains no split 'val' with VOC annotations" in message(tmp_path, "val")
