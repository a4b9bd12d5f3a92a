"""What eval.py and test.py do."""

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
from msdet.evaluation.reuse import DETECTIONS, earlier_detections, origin_of, save_origin
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
# Where test.py writes unless log_path says otherwise.
_TEST_FOLDER = "test/outputs"


def task_for(recipe: Recipe, dataset: Any) -> Task:
    """What is done with the images of a dataset, by the task of the model."""
    return TASKS[recipe.task](recipe, dataset)


@on_modelarts
def evaluate(cfg: Config) -> int:
    """What eval.py does: scores a checkpoint, or an existing result file with `detections`; logs and saves the result.

    Raises:
        UserError: a file is missing or wrong.
    """
    if cfg.detections and task_of(cfg) == "detect":
        return _score_result_file(cfg)
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to evaluate with --pretrained, or --detections FILE")
    session = _opened(cfg, Path(cfg.log_path), "val")
    task = task_for(session.recipe, session.dataset)
    earlier = _earlier(session)
    if earlier is None:
        collected = _run(session, task, session.folder / DETECTIONS)
        if collected is not None and isinstance(session.dataset, DetectionDataset):
            save_origin(session.folder, origin_of(session.recipe, session.dataset, session.source))
    else:
        collected = read_detections(earlier) if session.runtime.is_master else None
    if collected is not None:
        task.report(collected, session.folder)
        session.cfg.save(session.folder / "config.yaml")
    return 0


def _score_result_file(cfg: Config) -> int:
    """Neither a network nor images are needed, unless they are to be drawn."""
    folder = timestamped_folder(Path(cfg.log_path), "eval")
    start_logging(folder / "log.txt")
    dataset, cfg = open_detection_dataset(cfg, "val", need_images=False)
    task = DetectionTask(get_recipe(cfg), dataset)
    task.refuse_undrawable()
    task.report(read_detections(cfg.detections), folder)
    return 0


@on_modelarts
def test_dev(cfg: Config) -> int:
    """What test.py does: runs a checkpoint over the test images and packs the detections for COCO's server.

    Writes predict_TIME.json and detections_test-dev2017_MODEL_results.zip, which holds the same under the name that the
    server asks for.

    Raises:
        UserError: a file is missing or wrong.
    """
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to test with --pretrained")
    if task_of(cfg) != "detect":
        raise UsageError(f"{cfg.model} finds no objects, and the test server scores such: score it with msdet eval")
    # On ModelArts log_path is the folder that is delivered.
    root = Path(cfg.log_path if cfg.enable_modelarts or "log_path" in cfg.places else _TEST_FOLDER)
    session = _opened(cfg, root, "test")
    predictions = session.folder / f"predict_{session.folder.name}.json"
    dataset = session.dataset
    assert isinstance(dataset, DetectionDataset), "a classifier was refused"
    task = DetectionTask(session.recipe, dataset, session.recipe.test_options())
    if _run(session, task, predictions) is None:
        return 0
    packed = pack(predictions, f"detections_test-dev2017_{session.cfg.model}_results")
    session.cfg.save(session.folder / "config.yaml")
    log.info("detections: %s; to be handed in: %s", predictions, packed)
    return 0


def pack(predictions: Path, name: str) -> Path:
    """Zips a result file as NAME.zip beside it, under the name NAME.json; returns the archive."""
    archive = predictions.with_name(f"{name}.zip")
    with atomic_path(archive) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as file:
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
    """What the checkpoint finds on all images; detections are written to `file`. None on ranks other than 0."""
    predictor = CheckpointPredictor(session.recipe)
    predictor.load(session.weights, session.source)
    with Evaluator(task, predictor, session.runtime, session.stop) as evaluator:
        dataset = session.dataset
        log.info("evaluating %s on %d images of %s", session.source, len(dataset), dataset.ann_file)
        return evaluator.collect(file)


def _earlier(session: Session) -> Path | None:
    """With `override` off, the newest result file of the same weights, images and thresholds."""
    dataset = session.dataset
    if session.cfg.override or not isinstance(dataset, DetectionDataset):
        return None
    origin = origin_of(session.recipe, dataset, session.source)
    earlier = earlier_detections(Path(session.cfg.log_path), origin)
    if earlier is not None:
        log.info("override is off: scoring %s", earlier)
    return earlier
