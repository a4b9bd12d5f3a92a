"""One dataset converted between all formats: the boxes stay identical."""

import numpy as np
import pytest

from msdet.data.build_dataset import build_dataset
from msdet.data.formats.coco.write import coco_of, write_coco
from msdet.data.formats.format import SourceOptions
from msdet.data.formats.mindrecord.write import write_mindrecord
from msdet.data.open import load_annotations
from msdet.data.read_options import ReadOptions
from tests.data import all_formats as formats


def read(root, **options):
    return build_dataset(load_annotations(SourceOptions(str(root), **options), "train"), ReadOptions())


SOURCES = {
    "voc": lambda root: read(formats.write_voc(root)),
    "yolo": lambda root: read(formats.write_yolo(root)),
    "txt": lambda root: read(formats.write_txt(root), ann_file="train.txt"),
}


def as_coco(dataset, folder):
    write_coco(coco_of(dataset), folder / "out.json")
    return read("", ann_file=str(folder / "out.json"), image_dir=str(dataset.image_dir))


def as_mindrecord(dataset, folder):
    write_mindrecord(dataset, folder / "records", "train", shards=2)
    return read(folder / "records")


@pytest.mark.parametrize("kind", SOURCES)
def test_every_format_converts_to_every_other(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source")
    for convert in (as_coco, as_mindrecord, lambda d, f: as_mindrecord(as_coco(d, f / "a"), f / "b")):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        result = convert(source, folder)
        assert result.class_names == source.class_names
        for ours, theirs in zip(result.samples, source.samples, strict=True):
            np.testing.assert_array_equal(ours.boxes, theirs.boxes)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
            np.testing.assert_array_equal(ours.difficult, theirs.difficult)
            assert ours.image_id == theirs.image_id


def test_all_formats_agree(tmp_path):
    datasets = [source(tmp_path / kind) for kind, source in SOURCES.items()]
    for sample, *others in zip(*(dataset.samples for dataset in datasets), strict=True):
        for other in others:
            np.testing.assert_allclose(other.boxes, sample.boxes, atol=2e-6)
            np.testing.assert_array_equal(other.labels, sample.labels)
