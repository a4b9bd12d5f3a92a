"""What postprocess.py does: scores an exported file, or what another program has computed with one.

An Ascend 310 runs a file by MindSpore Lite, or as .om by a program of one's own. For the second way this writes the
inputs as files, and reads the outputs back: `NAME_K.bin` holds output K of the image NAME.jpg, float32 or float16.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from mindspore import Tensor

from msdet.checkpoints.card import apply_card
from msdet.errors import UsageError, UserError
from msdet.evaluation.evaluator import Evaluator, refuse_undrawable, score_file
from msdet.export.atc import atc_command
from msdet.export.form import Finish, Form, as_arrays
from msdet.export.sidecar import read_sidecar
from msdet.files import stamped_folder
from msdet.inference.image_numbers import ResultNumbers
from msdet.inference.result_files import ResultFiles, file_names, read_bins
from msdet.inference.runners import Runner, host_config, open_runner
from msdet.inference.unread import UnreadLoader, unread_images
from msdet.models.recipe import DetectionRecipe, get_recipe, task_of
from msdet.runtime.modelarts import on_modelarts
from msdet.runtime.start import Runtime, start, start_logging
from msdet.session.datasets import open_dataset

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset
    from msdet.data.loading.batch import Batch

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound="Config")


class RunnerEvaluator(Evaluator):
    """Scores what a runner computes.

    Args:
        runner: an exported file, opened.
        dataset: the validation images.
    """

    def __init__(self, runner: Runner, dataset: DetectionDataset) -> None:
        self.runner = runner
        cfg = runner.cfg.replace(eval_batch_size=runner.batch_size or runner.cfg.eval_batch_size)
        super().__init__(cfg, get_recipe(cfg), dataset, Runtime(cfg.device_target))

    def _build(self, recipe: DetectionRecipe) -> None:
        """The runner has the network."""

    def _run(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        boxes, scores = self.runner.predict(batch.images, batch.valid_sizes)
        return boxes, scores


class FilesEvaluator(Evaluator):
    """Scores the result files of another program; images are not read, as their sizes are enough.

    Args:
        cfg: configuration; `result_path` is the folder of the files.
        dataset: the validation images.

    Raises:
        UserError: the folder holds no such files, or two images share a name.
    """

    def __init__(self, cfg: Config, dataset: DetectionDataset) -> None:
        self.files = ResultFiles(Path(cfg.result_path), image_names(dataset))
        self.numbers = ResultNumbers(cfg, dataset)
        super().__init__(cfg.replace(eval_batch_size=1), get_recipe(cfg), dataset, Runtime(cfg.device_target))

    def _build(self, recipe: DetectionRecipe) -> None:
        size = self.cfg.testing_size
        network = recipe.build_network().set_train(False)
        self.finish = Finish(recipe, size)
        raw = as_arrays(network(Tensor(np.zeros((1, 3, *size), np.float32))))
        self.raw_shapes = [map_.shape for map_ in raw]
        self.final_shapes = [array.shape for array in as_arrays(self.finish(*map(Tensor, raw)))]

    def _run(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        index = int(batch.indices[0])
        sample = self.dataset.samples[index]
        self.numbers.check_size(index, batch.geometry[0], sample.image_path.name)
        paths = self.files.of(index, self.numbers.of(index), sample.image_path.name)
        for shapes in (self.raw_shapes, self.final_shapes):
            arrays = read_bins(paths, shapes)
            if arrays is not None:
                break
        else:
            sizes = ", ".join(f"{path.name} {path.stat().st_size}" for path in paths)
            raise UserError(
                f"{self.files.folder}: the files of {sample.image_path.name} ({sizes} bytes) are neither the raw maps "
                f"{self.raw_shapes} nor boxes and scores {self.final_shapes} in float32 or float16; is testing_shape "
                f"({self.cfg.testing_shape}) that of the file which was run?"
            )
        boxes, scores = arrays if shapes is self.final_shapes else as_arrays(self.finish(*map(Tensor, arrays)))
        return boxes, scores

    def _open_loader(self, recipe: DetectionRecipe) -> UnreadLoader:
        return unread_images(self.dataset, recipe.eval_pipeline().place, self.cfg.testing_size)


def image_names(dataset: DetectionDataset) -> list[str]:
    """The NAME of each image of a detector's data set; see `file_names`."""
    root = dataset.image_dir
    paths = [sample.image_path for sample in dataset.samples]
    return file_names([path.relative_to(root) if path.is_relative_to(root) else path for path in paths], root)


def write_inputs(evaluator: Evaluator, form: Form, folder: Path, names: Sequence[str]) -> int:
    """Writes what goes into the file for each image: NAME.bin, and NAME.size.bin where it takes valid sizes.

    Args:
        evaluator: of the data set.
        form: of the exported file.
        folder: made if need be.
        names: of the images, in the order of the data set.

    Returns:
        how many images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = get_recipe(evaluator.cfg).build_preprocess()
    for batch in evaluator.loader.epoch(0):
        normalised = None
        if not form.preprocess:
            normalised = preprocess(Tensor(np.array(batch.images)), Tensor(batch.valid_sizes)).asnumpy()
        inputs = form.inputs(batch.images, batch.valid_sizes, normalised)
        for position, index in enumerate(batch.indices.tolist()):
            for array, suffix in zip(inputs, ("", ".size"), strict=False):
                np.ascontiguousarray(array[position]).tofile(folder / f"{names[index]}{suffix}.bin")
    return len(evaluator.dataset.samples)


@on_modelarts
def score(cfg: Config) -> int:
    """Scores `pretrained` (.mindir, .onnx, .om) by a runner, or the files in `result_path`; or writes `input_bins`.

    Raises:
        UserError: a file is missing, damaged or of another model; results do not fit.
    """
    if not (cfg.pretrained or cfg.result_path):
        raise UsageError("give an exported file with --pretrained FILE, or result files with --result_path FOLDER")
    if cfg.input_bins and not cfg.pretrained:
        raise UsageError("input_bins needs the exported file that the inputs are for: --pretrained FILE")
    folder = stamped_folder(Path(cfg.log_path), "infer")
    start_logging(folder / "log.txt")
    start(host_config(cfg, Path(cfg.pretrained)) if cfg.pretrained else cfg)
    if task_of(cfg) == "classify":
        from msdet.inference.score_classes import score_classes

        return score_classes(cfg, folder)
    with _evaluator(cfg, folder) as evaluator:
        if cfg.input_bins:
            _, form = read_sidecar(Path(cfg.pretrained))
            count = write_inputs(evaluator, form, Path(cfg.input_bins), image_names(evaluator.dataset))
            log.info("inputs of %d images: %s", count, cfg.input_bins)
            return 0
        log.info("scoring %s on %d images", cfg.result_path or cfg.pretrained, len(evaluator.dataset.samples))
        detections = folder / "detections.json"
        evaluator.write(detections)
        score_file(cfg, evaluator.dataset, detections, folder)
    return 0


def _evaluator(cfg: Config, folder: Path) -> Evaluator:
    if cfg.result_path and not cfg.input_bins:
        if cfg.pretrained:
            cfg = as_the_file_says(cfg)
        dataset, cfg = open_dataset(cfg, "val", need_images=False)
        refuse_undrawable(cfg, dataset)
        return FilesEvaluator(cfg, dataset)
    runner = open_file(cfg, folder)
    dataset, runner.cfg = open_dataset(runner.cfg, "val")
    return RunnerEvaluator(runner, dataset)


def as_the_file_says(cfg: ConfigT) -> ConfigT:
    """The configuration with the size, classes and preprocessing of the exported file that another program ran."""
    content, form = read_sidecar(Path(cfg.pretrained))
    cfg = apply_card(cfg, content["config"], Path(cfg.pretrained), with_classes=True)
    return cfg.replace(testing_shape=form.size[0])


def open_file(cfg: Config, folder: Path) -> Runner:
    """The runner of an exported file or checkpoint; leaves the command that makes an .om of the file in a folder."""
    path = Path(cfg.pretrained)
    if path.suffix not in (".ckpt", ".om"):
        _, form = read_sidecar(path)
        (folder / "atc.sh").write_text(atc_command(path, form, cfg.precision_mode) + "\n", encoding="utf-8")
    return open_runner(path, cfg, cfg.runner)
