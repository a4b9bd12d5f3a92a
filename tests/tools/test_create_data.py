"""Conversion to MindRecord and COCO files."""

from pathlib import Path

import pytest

from msdet.config import load_config
from msdet.data.formats.mindrecord.read import fingerprint
from msdet.errors import UsageError, UserError
from msdet.runtime import modelarts
from msdet.session.datasets import open_dataset
from msdet.tools import create_data
from tests.data import all_formats as formats

CONFIG = "configs/yolov3_shapes.yaml"


def config(*flags):
    return load_config(CONFIG, ["--class_names=", "--num_classes=0", *flags], "train")


@pytest.mark.parametrize("output_format", ["mindrecord", "coco"])
def test_both_formats(tmp_path, capsys, output_format):
    root = formats.write_voc(tmp_path / "voc")
    arguments = ["--config", CONFIG, "--class_names=", "--num_classes=0", f"--data_dir={root}", f"--to={output_format}"]
    flag = "--mindrecord_dir" if output_format == "mindrecord" else "--output"
    arguments += [flag, str(tmp_path / "out")]
    assert create_data.main([*arguments, "--is_modelarts=False"]) == 0
    assert capsys.readouterr().out.count("3 images, 3 boxes, 0 crowd regions") == 2
    if output_format == "mindrecord":
        again = open_dataset(config(f"--data_dir={tmp_path}/out"), "val")[0]
    else:
        flags = [f"--val_ann_file={tmp_path}/out/val.json", f"--val_image_dir={root}"]
        again = open_dataset(config(*flags), "val")[0]
    assert fingerprint(again) == fingerprint(open_dataset(config(f"--data_dir={root}"), "val")[0])
    with pytest.raises(UserError, match="already exists and is not overwritten"):
        create_data.main(arguments)


@pytest.mark.parametrize("place", ["", "/mindrecord"])
def test_modelarts(tmp_path, capsys, place):
    """The output of one job is the input of the next; data_url may be its train_url or the folder in it."""
    formats.write_voc(tmp_path / "bucket" / "data")
    out = f"{tmp_path}/bucket/out"
    job = ["--class_names=", "--num_classes=0", "--is_modelarts=True"]
    flags = [*job, f"--data_url={tmp_path}/bucket/data", f"--train_url={out}"]
    flags += [f"--data_path={tmp_path}/a", f"--output_path={tmp_path}/b", f"--load_path={tmp_path}/c"]
    assert create_data.main(["--config", CONFIG, *flags]) == 0
    found = [path.name for path in Path(out).rglob("*.mindrecord*")]
    assert len(found) == 32, found
    ready = modelarts.download_inputs(
        config(*job, f"--data_url={out}{place}", f"--data_path={tmp_path}/d", "--dataset=voc")
    )
    for split in ("train", "val"):
        dataset = open_dataset(ready, split)[0]
        assert dataset.store is not None and len(dataset) == 3
        assert Path(dataset.ann_file).is_relative_to(tmp_path / "d"), "the first job and its folders are gone"


def test_output_must_be_uploaded_on_modelarts(tmp_path):
    flags = ["--config", CONFIG, "--is_modelarts=True", f"--train_url={tmp_path}/url", f"--output_path={tmp_path}/out"]
    for typed in (f"--mindrecord_dir={tmp_path}/elsewhere", f"--output={tmp_path}/elsewhere"):
        with pytest.raises(UsageError, match="elsewhere would not be uploaded to train_url .*omit --output"):
            create_data.main([*flags, typed])


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--splits=both"], "--splits is 'both'; it takes train, val, test"),
        ([], "the output folder is missing: pass --mindrecord_dir=DIR or --output=DIR"),
    ],
)
def test_invalid_arguments(tmp_path, flags, text):
    with pytest.raises(UsageError, match=text):
        create_data.main(["--config", CONFIG, f"--data_dir={formats.write_voc(tmp_path)}", *flags])
