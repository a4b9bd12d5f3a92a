"""Data for EfficientDet as in the original scripts: TXT lines, MindRecord written once and reused, create_data."""

import json
from pathlib import Path

import numpy as np
import pytest

from msdet.config import load_config
from msdet.errors import UserError, run_command
from msdet.models.recipe import get_recipe
from msdet.runtime.start import Runtime
from msdet.session.datasets import open_dataset, training_loader
from msdet.tools import create_data

SEED = Path(__file__).resolve().parents[3] / "configs" / "efficientdet_d0_seed.yaml"


def opened(*flags, split="train"):
    return open_dataset(load_config(SEED, [f"--{flag}" for flag in flags]), split)


def annotations(dataset):
    """{file name: rows of left, top, right, bottom, label} of a dataset."""
    found = {}
    for sample in dataset.samples:
        rows = np.concatenate((sample.boxes, sample.labels[:, None]), 1)
        found[Path(sample.image_path).name] = rows[np.lexsort(rows.T)].tolist()
    return found


@pytest.fixture(scope="module")
def expected(dataset):
    """Annotations of the COCO file; labels are category id - 1."""
    found = {f"{i}.jpg": [] for i in range(6)}
    for item in json.loads((dataset / "annotations" / "train.json").read_text())["annotations"]:
        x, y, w, h = item["bbox"]
        found[f"{item['image_id']}.jpg"].append([x, y, x + w, y + h, item["category_id"] - 1])
    return {name: np.array(rows)[np.lexsort(np.array(rows).T)].tolist() if rows else [] for name, rows in found.items()}


@pytest.fixture(scope="module")
def lines(dataset, expected, tmp_path_factory):
    """The annotations as lines in the format `train/0.jpg 0,259,401,459,7 ...`."""
    path = tmp_path_factory.mktemp("txt") / "train.txt"
    rows = {name: " ".join(",".join(str(int(v)) for v in row) for row in rows) for name, rows in expected.items()}
    path.write_text("".join(f"train/{name} {row}".strip() + "\n" for name, row in rows.items()))
    return path


def test_json_with_the_outputs_of_published_weights(dataset, expected):
    found, cfg = opened(f"coco_root={dataset}")
    assert annotations(found) == expected and cfg.num_classes == 90


def test_txt_lines(dataset, expected, lines):
    found, cfg = opened(f"anno_path={lines}", f"image_dir={dataset}", "dataset=txt")
    assert annotations(found) == expected and cfg.num_classes == 90


@pytest.mark.parametrize("layout", ["coco", "txt"])
def test_mindrecord_is_written_once_reused_and_rejected_when_outdated(dataset, expected, lines, tmp_path, layout):
    source = (
        (f"coco_root={dataset}",) if layout == "coco" else (f"anno_path={lines}", f"image_dir={dataset}", "dataset=txt")
    )
    flags = (*source, f"mindrecord_dir={tmp_path}")
    found, cfg = opened(*flags)
    assert annotations(found) == expected
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.mindrecord?")}
    assert len(written) == 8
    again, _ = opened(*flags)
    assert annotations(again) == expected
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.mindrecord?")} == written
    with training_loader(
        cfg.replace(per_batch_size=3, num_parallel_workers=0),
        again,
        get_recipe(cfg).train_pipeline(),
        Runtime("CPU", 0, 1),
    ) as loader:
        batch = next(iter(loader.epoch(0)))
        images, labels = batch.images, batch.labels
    assert images.shape == (3, 512, 512, 3) and set(labels[labels >= 0].tolist()) <= {1, 4}
    changed = json.loads((dataset / "annotations" / "train.json").read_text())
    changed["annotations"][0]["category_id"] = 5
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match="made from other annotations"):
        opened(f"train_ann_file={tmp_path / 'changed.json'}", f"train_image_dir={dataset / 'train'}", flags[-1])


def test_create_data_and_training_from_mindrecord_only(dataset, expected, tmp_path):
    flags = ["--config", SEED, "--is_modelarts=False", f"--coco_root={dataset}", f"--mindrecord_dir={tmp_path}"]
    assert run_command(create_data.main, [str(flag) for flag in flags]) == 0
    found, _ = opened(f"mindrecord_dir={tmp_path}")
    assert annotations(found) == expected


def test_create_data_for_modelarts(dataset, tmp_path):
    """As in the README of the original: data_url is the dataset, train_url receives the result."""
    local = [f"--{name}={tmp_path / name}" for name in ("data_path", "output_path", "load_path")]
    flags = [
        "--config",
        SEED,
        "--is_modelarts=True",
        f"--data_url={dataset}",
        f"--train_url={tmp_path / 'out'}",
        *local,
    ]
    assert run_command(create_data.main, [str(flag) for flag in flags]) == 0
    assert len(list((tmp_path / "out").rglob("train.mindrecord?"))) == 8
