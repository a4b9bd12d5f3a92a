"""The commands `msdet eval` and `msdet test`."""

from __future__ import annotations

import logging
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.data.dataset import DetectionDataset
from msdet.errors import UsageError
from msdet.evaluation.classification import ClassificationTask
from msdet.evaluation.detection import DetectionTask
from msdet.evaluation.detection_table import read_detections
from msdet.evaluation.evaluator import Evaluator
from msdet.evaluation.predictor import CheckpointPredictor
from msdet.evaluation.reuse import DETECTIONS, earlier_detections, provenance_of, save_provenance
from msdet.files import atomic_path, make_unique_folder, timestamped_folder
from msdet.models.recipe import get_recipe, task_of
from msdet.runtime.modelarts import on_modelarts
from msdet.runtime.start import start_logging
from msdet.session.datasets import open_detection_dataset
from msdet.session.session import Session

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.evaluation.task import Task
    from msdet.models.recipe import Recipe

log = logging.getLogger(__name__)

TASKS: dict[str, type[Task]] = {"detect": DetectionTask, "classify": ClassificationTask}
# Output folder of `msdet test` unless log_path is set.
_TEST_FOLDER = "test/outputs"


def build_task(recipe: Recipe, dataset: Any) -> Task:
    """The task of a model on a dataset."""
    return TASKS[recipe.task](recipe, dataset)


@on_modelarts
def evaluate(cfg: Config) -> int:
    """`msdet eval`: scores a checkpoint, or the result file given by `detections`; logs and saves the result.

    Raises:
        UserError: a file is missing or invalid.
    """
    if cfg.detections and task_of(cfg) == "detect":
        return _score_result_file(cfg)
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to evaluate with --pretrained, or --detections FILE")
    root = Path(cfg.log_path)
    session = _opened(cfg, root, "val")
    dataset = session.dataset
    task = build_task(session.recipe, dataset)
    provenance, earlier = None, None
    if isinstance(dataset, DetectionDataset):
        provenance = provenance_of(session.recipe, dataset, session.source)
        earlier = None if session.cfg.override else earlier_detections(root, provenance)
    if earlier is not None:
        log.info("override is off: scoring %s", earlier)
        collected = read_detections(earlier) if session.runtime.is_master else None
    else:
        collected = _run(session, task, session.folder / DETECTIONS)
        if collected is not None and provenance is not None:
            save_provenance(session.folder, provenance)
    if collected is not None:
        task.report(collected, session.folder)
        session.cfg.save(session.folder / "config.yaml")
    return 0


def _score_result_file(cfg: Config) -> int:
    """Scores a result file; needs no network, and images only to draw them."""
    folder = timestamped_folder(Path(cfg.log_path), "eval")
    start_logging(folder / "log.txt")
    dataset, cfg = open_detection_dataset(cfg, "val", need_images=False)
    task = DetectionTask(get_recipe(cfg), dataset)
    task.check_drawable()
    task.report(read_detections(cfg.detections), folder)
    return 0


@on_modelarts
def test_dev(cfg: Config) -> int:
    """`msdet test`: detects objects in the test images and packs the detections for the COCO evaluation server.

    Writes predict_TIME.json and detections_test-dev2017_MODEL_results.zip, which contains the same file under the name
    that the server requires.

    Raises:
        UsageError: `pretrained` is empty, or the model is a classifier.
        UserError: a file is missing or invalid.
    """
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to test with --pretrained")
    if task_of(cfg) != "detect":
        raise UsageError(
            f"{cfg.model} is a classifier, and the test server scores detections: score it with msdet eval"
        )
    # On ModelArts log_path is the folder that is uploaded.
    root = Path(cfg.log_path if cfg.enable_modelarts or "log_path" in cfg.places else _TEST_FOLDER)
    session = _opened(cfg, root, "test")
    predictions = session.folder / f"predict_{session.folder.name}.json"
    dataset = session.dataset
    assert isinstance(dataset, DetectionDataset), "classifiers are refused above"
    task = DetectionTask(session.recipe, dataset, session.recipe.test_options())
    if _run(session, task, predictions) is None:
        return 0
    archive = zip_result_file(predictions, f"detections_test-dev2017_{session.cfg.model}_results")
    session.cfg.save(session.folder / "config.yaml")
    log.info("detections: %s; archive to submit: %s", predictions, archive)
    return 0


def zip_result_file(predictions: Path, name: str) -> Path:
    """Zips a result file as NAME.json into NAME.zip in the same folder; returns the archive."""
    archive = predictions.with_name(f"{name}.zip")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(predictions, f"{name}.json")
    return archive


def _opened(cfg: Config, root: Path, split: str) -> Session:
    """A session with a new folder below `root`, the weights of `pretrained` and a split of the dataset."""
    session = Session(cfg, "evaluate")
    session.log_to(Path(session.runtime.on_master(lambda: str(_new_folder(root, split)))))
    session.load_weights()
    session.open_dataset(split)
    return session


def _new_folder(root: Path, split: str) -> Path:
    if split == "test":
        return make_unique_folder(root, f"{datetime.now():%Y-%m-%d_time_%H_%M_%S}")
    return timestamped_folder(root, "eval")


def _run(session: Session, task: Task, file: Path) -> Any:
    """Runs the checkpoint on all images and collects the predictions; detections are written to `file`. Returns None on
    ranks other than 0."""
    predictor = CheckpointPredictor(session.recipe)
    predictor.load(session.weights, session.source)
    with Evaluator(task, predictor, session.runtime, session.stop) as evaluator:
        dataset = session.dataset
        log.info("evaluating %s on %d images of %s", session.source, len(dataset), dataset.ann_file)
        return evaluator.collect(file)
