"""Detections on images without public ground truth, as a test server takes them."""

from __future__ import annotations

import logging
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import load_weights
from msdet.errors import UsageError
from msdet.evaluation.evaluator import Evaluator
from msdet.files import atomic_path, make_folder
from msdet.models.recipe import get_recipe
from msdet.runtime.modelarts import on_modelarts
from msdet.runtime.start import start, start_logging
from msdet.session.datasets import open_dataset

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

# Where the results go unless log_path says otherwise.
_FOLDER = "test/outputs"


@on_modelarts
def test_dev(cfg: Config) -> int:
    """What test.py does: runs a checkpoint over the test images and packs the detections for the server.

    Writes predict_TIME.json and detections_test-dev2017_MODEL_results.zip, which holds the same under the name that the
    server asks for.

    Raises:
        UserError: a file is missing or wrong.
    """
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to test with --pretrained")
    runtime = start(cfg, "evaluate")
    # On ModelArts log_path is the folder that is delivered.
    root = Path(cfg.log_path if cfg.enable_modelarts or "log_path" in cfg.places else _FOLDER)
    stamp = f"{datetime.now():%Y-%m-%d_time_%H_%M_%S}"
    folder = Path(runtime.by_master(lambda: str(make_folder(root, stamp))))
    start_logging(folder / "log.txt" if runtime.is_master else None, runtime.rank)
    source = Path(cfg.pretrained)
    weights, card = load_weights(source)
    dataset, cfg = open_dataset(apply_card(cfg, card, source, with_classes=True), "test")
    recipe = get_recipe(cfg)
    with Evaluator(cfg, recipe, dataset, runtime) as evaluator:
        evaluator.options = recipe.test_options()
        evaluator.load(weights, source)
        log.info("testing %s on %d images of %s", source, len(dataset.samples), dataset.ann_file)
        predictions = folder / f"predict_{folder.name}.json"
        if not evaluator.write(predictions):
            return 0
    packed = pack(predictions, f"detections_test-dev2017_{cfg.model}_results")
    cfg.save(folder / "config.yaml")
    log.info("detections: %s; to be handed in: %s", predictions, packed)
    return 0


def pack(predictions: Path, name: str) -> Path:
    """Zips a result file as NAME.zip beside it, under the name NAME.json; returns the archive."""
    archive = predictions.with_name(f"{name}.zip")
    with atomic_path(archive) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(predictions, f"{name}.json")
    return archive
