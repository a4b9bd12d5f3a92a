"""The rendered dataset of shapes."""

import json

import numpy as np
import pytest

from msdet.data.formats.coco.layouts import find_split
from msdet.data.formats.coco.read import read_coco
from msdet.data.images.decode import decode_image
from msdet.data.synthetic.render import SHAPE_NAMES
from msdet.data.synthetic.shapes import STAMP, main, render_shapes
from msdet.errors import UsageError, UserError, run_command


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return render_shapes(tmp_path_factory.mktemp("shapes") / "a" / "b", train=40, val=10, size=128, seed=5)


def read(folder, split):
    paths = find_split(folder, split)
    return read_coco(paths.ann_file, paths.image_dir)


def test_dataset_is_a_complete_coco_dataset(shapes):
    train, val = read(shapes, "train"), read(shapes, "val")
    assert (len(train), len(val)) == (40, 10)
    assert tuple(train.class_names) == SHAPE_NAMES
    assert len(SHAPE_NAMES) >= 5
    assert train.report.clipped == train.report.skipped == train.report.images_without_boxes == 0
    assert {len(sample.boxes) for sample in train.samples} <= set(range(1, 7))
    assert {label for sample in train.samples for label in sample.labels.tolist()} == set(range(len(SHAPE_NAMES)))
    for sample in val.samples:
        assert decode_image(sample.image_path, size=(128, 128)).shape == (128, 128, 3)
    for annotation in json.loads((shapes / "annotations" / "train.json").read_text())["annotations"]:
        assert 0 < annotation["area"] <= annotation["bbox"][2] * annotation["bbox"][3]
        assert annotation["iscrowd"] == 0


def test_sizes_and_shapes_vary(shapes):
    sides = np.concatenate([sample.boxes[:, 2:] - sample.boxes[:, :2] for sample in read(shapes, "train").samples])
    longer = sides.max(axis=1)
    assert longer.min() < 14
    assert longer.max() > 45
    assert sides.max() <= 64
    aspects = sides[:, 0] / sides[:, 1]
    assert aspects.min() < 0.5
    assert aspects.max() > 2


def test_same_seed_renders_the_same_images(shapes, tmp_path):
    again = render_shapes(tmp_path / "again", train=40, val=10, size=128, seed=5)
    for path in sorted(shapes.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(shapes)).read_bytes()
    other = render_shapes(tmp_path / "other", train=1, val=1, size=128, seed=6)
    assert (other / "train" / "000001.jpg").read_bytes() != (shapes / "train" / "000001.jpg").read_bytes()
    more = render_shapes(tmp_path / "more", train=41, val=10, size=128, seed=5)
    assert (more / "train" / "000040.jpg").read_bytes() == (shapes / "train" / "000040.jpg").read_bytes()
    assert (more / "val" / "000001.jpg").read_bytes() != (more / "train" / "000001.jpg").read_bytes()


def test_existing_dataset_is_reused_and_never_overwritten(shapes, tmp_path):
    before = (shapes / STAMP).stat().st_mtime_ns
    assert render_shapes(shapes, train=40, val=10, size=128, seed=5) == shapes
    assert (shapes / STAMP).stat().st_mtime_ns == before
    with pytest.raises(UserError, match="shapes with other parameters"):
        render_shapes(shapes, train=40, val=10, size=128, seed=6)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="is not a dataset of shapes"):
        render_shapes(mine, 1, 1)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="is not a dataset of shapes"):
        render_shapes(file, 1, 1)
    with pytest.raises(UserError, match="cannot be created"):
        render_shapes(file / "below", 1, 1)


def test_interrupted_run_leaves_no_files(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("msdet.data.synthetic.shapes._add_annotations", interrupt)
        with pytest.raises(KeyboardInterrupt):
            render_shapes(tmp_path / "data", 2, 1, 64)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    assert len(read(render_shapes(tmp_path / "data", 2, 1, 64), "train")) == 2


def test_invalid_arguments(tmp_path):
    for options in ({"train": 0}, {"val": 0}, {"size": 10}, {"seed": -1}, {"max_objects": 0}):
        with pytest.raises(UsageError):
            render_shapes(tmp_path / "x", **options)


def test_command(tmp_path, capsys):
    out = tmp_path / "data"
    arguments = ["--output", str(out), "--train", "3", "--val", "2", "--size", "64", "--seed", "2"]
    assert run_command(main, arguments) == 0
    assert len(read(out, "train")) == 3
    assert run_command(main, [*arguments, "--seed", "3"]) == 1
    assert "error: " in capsys.readouterr().err
