"""What postprocess.py does for a classifier: accuracy of an exported file, or of the results of another program."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.classify import ClassEvaluator, report_classes
from msdet.export.sidecar import read_sidecar
from msdet.inference.result_files import file_names, read_bins, result_files
from msdet.inference.score import as_the_file_says, open_file, write_inputs
from msdet.inference.unread import UnreadBatch, UnreadLoader
from msdet.models.recipe import get_recipe
from msdet.runtime.start import Runtime
from msdet.session.datasets import open_dataset

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.formats.imagefolder import ClassBatch, ImageFolder
    from msdet.inference.runners import Runner
    from msdet.models.recipe import ClassificationRecipe

log = logging.getLogger(__name__)


class RunnerClassEvaluator(ClassEvaluator):
    """Scores what a runner computes.

    Args:
        runner: an exported file or a checkpoint, opened.
        dataset: the validation pictures.
    """

    def __init__(self, runner: Runner, dataset: ImageFolder) -> None:
        self.runner = runner
        super().__init__(runner.cfg, get_recipe(runner.cfg), dataset, Runtime(runner.cfg.device_target))

    def _build(self, recipe: ClassificationRecipe) -> None:
        """The runner has the network."""

    def _classify(self, batch: ClassBatch) -> np.ndarray:
        (probabilities,) = self.runner.predict(batch.images)
        return probabilities


class FilesClassEvaluator(ClassEvaluator):
    """Scores the result files of another program: `NAME_0.bin` holds the C probabilities or logits of a picture, which
    is not read itself.

    Which of both does not matter: places and accuracies are the same.

    Args:
        cfg: configuration; `result_path` is the folder of the files.
        dataset: the validation pictures.

    Raises:
        UserError: the folder holds no such files, or two pictures share a name.
    """

    def __init__(self, cfg: Config, dataset: ImageFolder) -> None:
        self.folder = Path(cfg.result_path)
        self.files = result_files(self.folder)
        self.names = file_names(dataset.files, dataset.root)
        super().__init__(cfg, get_recipe(cfg), dataset, Runtime(cfg.device_target))

    def _build(self, recipe: ClassificationRecipe) -> None:
        """Another program had the network."""

    def _open_loader(self, recipe: ClassificationRecipe) -> UnreadLoader:
        return UnreadLoader(self.dataset.files)

    def _classify(self, batch: UnreadBatch) -> np.ndarray:
        return np.concatenate([self._read(index) for index in batch.indices.tolist()])

    def _read(self, index: int) -> np.ndarray:
        name, count = self.names[index], len(self.dataset.class_names)
        path = self.files.get(name, {}).get(0)
        if path is None:
            raise UserError(f"{self.folder} lacks {name}_0.bin, the result of {self.dataset.files[index]}")
        arrays = read_bins([path], [(1, count)])
        if arrays is None:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes; {count} classes in float32 take {4 * count}, in float16 "
                f"{2 * count}"
            )
        return arrays[0]


def score_classes(cfg: Config, folder: Path) -> int:
    """Scores `pretrained` by a runner, or the files in `result_path`; or writes `input_bins`.

    Args:
        cfg: configuration of a classifier.
        folder: where the tables and the picture go.

    Raises:
        UserError: a file is missing, damaged or of another model; results do not fit.
    """
    with _evaluator(cfg, folder) as evaluator:
        if cfg.input_bins:
            _, form = read_sidecar(Path(cfg.pretrained))
            names = file_names(evaluator.dataset.files, evaluator.dataset.root)
            count = write_inputs(evaluator, form, Path(cfg.input_bins), names)
            log.info("inputs of %d images: %s", count, cfg.input_bins)
            return 0
        log.info("scoring %s on %d images", cfg.result_path or cfg.pretrained, len(evaluator.dataset))
        report_classes(evaluator.score(), folder)
    return 0


def _evaluator(cfg: Config, folder: Path) -> ClassEvaluator:
    if cfg.result_path and not cfg.input_bins:
        dataset, cfg = open_dataset(as_the_file_says(cfg) if cfg.pretrained else cfg, "val")
        return FilesClassEvaluator(cfg, dataset)
    runner = open_file(cfg, folder)
    dataset, runner.cfg = open_dataset(runner.cfg, "val")
    return RunnerClassEvaluator(runner, dataset)
