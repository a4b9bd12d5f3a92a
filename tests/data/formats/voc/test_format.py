"""Detection of VOC annotations."""

from msdet.data.formats.format import SourceOptions
from msdet.data.formats.voc.format import VocFormat
from tests.data import all_formats as formats


def test_detection(tmp_path):
    root = formats.write_voc(tmp_path / "voc")
    found = VocFormat()
    assert found.matches_folder(SourceOptions(str(root)), "train")
    assert not found.matches_folder(SourceOptions(str(tmp_path)), "train")
    assert found.matches_file(root / "Annotations") and found.matches_file(root / "ImageSets" / "Main" / "train.txt")
    (tmp_path / "list.txt").write_text("a.jpg 1,2,3,4,0\n")
    assert not found.matches_file(tmp_path / "list.txt") and not found.matches_file(tmp_path / "a.json")


def test_loading_logs_its_lists(tmp_path, caplog):
    caplog.set_level("INFO")
    root = formats.write_voc(tmp_path)
    raw = VocFormat().load(SourceOptions(str(root), voc_first_pixel=0), "val")
    assert (raw.format, raw.annotations[0].bbox) == ("voc", [2, 3, 9, 19])
    assert f"images from {root}/ImageSets/Main/val.txt, annotations from {root}/Annotations" in caplog.text
