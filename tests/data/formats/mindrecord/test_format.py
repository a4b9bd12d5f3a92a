"""Detection of MindRecord files."""

import pytest

from msdet.data.formats.format import SourceOptions
from msdet.data.formats.mindrecord.format import MindRecordFormat
from msdet.errors import UserError


def test_detection_and_the_store_of_the_images(made, files):
    options = SourceOptions(str(made))
    assert MindRecordFormat().matches_folder(options, "train") and not MindRecordFormat().matches_folder(options, "val")
    raw = MindRecordFormat().load(options, "train")
    sample = files.samples[0]
    assert raw.store.read(raw.image_dir / sample.image_path.name) == sample.image_path.read_bytes()


def test_a_missing_split(made, tmp_path):
    for folder in (made, tmp_path):
        with pytest.raises(UserError, match="contains no MindRecord files of the split 'val' .* msdet create_data"):
            MindRecordFormat().load(SourceOptions(str(folder)), "val")
