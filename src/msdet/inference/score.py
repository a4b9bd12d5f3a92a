"""The command postprocess: evaluates an exported file, or the results of an external program that runs one.

On Ascend 310, MindSpore Lite runs the file, or an external program runs it as an .om. For such a program this command
writes the inputs to files and reads its outputs: `NAME_K.bin` is output K of the image NAME.jpg, float32 or float16.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from mindspore import Tensor

from msdet.checkpoints.card import apply_card
from msdet.data.dataset import DetectionDataset
from msdet.errors import UsageError
from msdet.evaluation.command import build_task
from msdet.evaluation.evaluator import Evaluator
from msdet.export.atc import atc_command
from msdet.export.sidecar import read_sidecar
from msdet.export.spec import ExportSpec
from msdet.files import timestamped_folder
from msdet.inference.open_runner import host_config, open_runner
from msdet.inference.predictors import (
    ClassificationFilePredictor,
    DetectionFilePredictor,
    RunnerPredictor,
    detection_result_names,
)
from msdet.inference.result_files import result_names
from msdet.inference.runners import Runner
from msdet.models.recipe import get_recipe
from msdet.runtime.modelarts import on_modelarts
from msdet.session.session import Session

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.models.recipe import Recipe

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound="Config")


@on_modelarts
def score(cfg: Config) -> int:
    """Evaluates `pretrained` (.mindir, .onnx, .om), or the result files in `result_path`; or writes `input_bins`.

    Raises:
        UserError: a file is missing, damaged or of another model.
    """
    if not (cfg.pretrained or cfg.result_path):
        raise UsageError("give an exported file with --pretrained FILE, or result files with --result_path FOLDER")
    if cfg.input_bins and not cfg.pretrained:
        raise UsageError("input_bins needs the exported file that the inputs are for: give --pretrained FILE")
    session = Session(cfg, host=host_config(cfg, Path(cfg.pretrained)) if cfg.pretrained else cfg)
    session.log_to(timestamped_folder(Path(cfg.log_path), "infer"))
    with _evaluator(session) as evaluator:
        if cfg.input_bins:
            _, spec = read_sidecar(Path(cfg.pretrained))
            count = write_inputs(evaluator, spec, Path(cfg.input_bins), _names(session))
            log.info("inputs of %d images: %s", count, cfg.input_bins)
            return 0
        log.info("scoring %s on %d images", cfg.result_path or cfg.pretrained, len(evaluator.task.dataset))
        task = evaluator.task
        task.report(evaluator.collect(session.folder / "detections.json"), session.folder)
    return 0


def _evaluator(session: Session) -> Evaluator:
    cfg = session.cfg
    is_detector = session.task_name == "detect"
    if cfg.result_path and not cfg.input_bins:
        if cfg.pretrained:
            session.cfg = apply_sidecar(cfg)
        session.open_dataset("val", need_images=not is_detector)
        dataset, recipe = session.dataset, session.recipe
        task = build_task(recipe, dataset)
        task.check_drawable()
        files: DetectionFilePredictor | ClassificationFilePredictor
        if isinstance(dataset, DetectionDataset):
            files = DetectionFilePredictor(recipe, dataset)
        else:
            files = ClassificationFilePredictor(recipe, dataset)
        return Evaluator(task, files, session.runtime, session.stop, files.loader)
    return runner_evaluator(session, open_file(cfg, session.folder))


def runner_evaluator(session: Session, runner: Runner) -> Evaluator:
    """Evaluates a runner on the validation images, with the batch size of its file.

    The session gets the configuration of the runner and the dataset.
    """
    session.cfg = runner.cfg
    session.open_dataset("val")
    runner.cfg = cfg = session.cfg
    if runner.batch_size:
        cfg = cfg.replace(eval_batch_size=runner.batch_size)
    task = build_task(get_recipe(cfg), session.dataset)
    return Evaluator(task, RunnerPredictor(runner), session.runtime, session.stop)


def _names(session: Session) -> Sequence[str]:
    dataset: Any = session.dataset
    return (
        detection_result_names(dataset) if session.task_name == "detect" else result_names(dataset.files, dataset.root)
    )


def write_inputs(evaluator: Evaluator, spec: ExportSpec, folder: Path, names: Sequence[str]) -> int:
    """Writes the inputs of the file for each image: NAME.bin, and NAME.size.bin if it has valid sizes as an input.

    Args:
        evaluator: evaluator of the dataset.
        spec: specification of the exported file.
        folder: output folder.
        names: names of the images, in the order of the dataset.

    Returns:
        number of images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe: Recipe = evaluator.task.recipe
    preprocess = recipe.build_preprocess()
    for batch in evaluator.loader.epoch(0):
        normalised = None
        if not spec.preprocess:
            normalised = preprocess(Tensor(np.array(batch.images)), Tensor(batch.valid_sizes)).asnumpy()
        inputs = spec.inputs(batch.images, batch.valid_sizes, normalised)
        for position, index in enumerate(batch.indices.tolist()):
            for array, suffix in zip(inputs, ("", ".size"), strict=False):
                np.ascontiguousarray(array[position]).tofile(folder / f"{names[index]}{suffix}.bin")
    return len(evaluator.task.dataset)


def apply_sidecar(cfg: ConfigT) -> ConfigT:
    """The configuration with the size, classes and preprocessing of the exported file `pretrained`."""
    content, spec = read_sidecar(Path(cfg.pretrained))
    cfg = apply_card(cfg, content["config"], Path(cfg.pretrained), with_classes=True)
    return cfg.replace(testing_shape=spec.size[0])


def open_file(cfg: Config, folder: Path) -> Runner:
    """Opens the runner of an exported file or checkpoint; writes the atc command line for the file to the folder."""
    path = Path(cfg.pretrained)
    if path.suffix not in (".ckpt", ".om"):
        _, spec = read_sidecar(path)
        (folder / "atc.sh").write_text(atc_command(path, spec, cfg.precision_mode) + "\n", encoding="utf-8")
    return open_runner(path, cfg, cfg.runner)
