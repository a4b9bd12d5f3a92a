"""Predictors beside a checkpoint's network: an exported file, and the result files of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor

from msdet.data.transforms.augment import Resize
from msdet.errors import UserError
from msdet.export.spec import DecoderCell, to_arrays
from msdet.inference.image_numbers import ImageNumbering
from msdet.inference.imageless_loader import ImagelessLoader, imageless_detection_loader
from msdet.inference.result_files import ResultFiles, read_bins, result_files, result_names

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset
    from msdet.data.formats.imagefolder import ImageFolder
    from msdet.inference.imageless_loader import ImagelessBatch
    from msdet.inference.runners import Runner
    from msdet.models.recipe import Recipe


class RunnerPredictor:
    """What a runner computes.

    Args:
        runner: an exported file or a checkpoint, opened.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def predict(self, batch: Any) -> tuple[np.ndarray, ...]:
        """See `Predictor`."""
        return self.runner.predict(batch.images, batch.valid_sizes)


class DetectionFilePredictor:
    """The result files of another program, raw maps or boxes and scores; images are not read, as their sizes are
    enough.

    Args:
        recipe: of the model; `result_path` of its configuration is the folder of the files.
        dataset: the validation images.

    Attributes:
        loader: gives the batches, of one image each.

    Raises:
        UserError: the folder holds no such files, or two images share a name.
    """

    def __init__(self, recipe: Recipe, dataset: DetectionDataset) -> None:
        cfg, place = recipe.cfg, recipe.eval_pipeline().place
        assert isinstance(place, Resize), "detectors are evaluated without chance"
        self.dataset = dataset
        self.files = ResultFiles(Path(cfg.result_path), detection_result_names(dataset))
        self.numbers = ImageNumbering(cfg, dataset)
        self.size = cfg.testing_size
        self.loader = imageless_detection_loader(dataset, place, self.size)
        network = recipe.build_network().set_train(False)
        self.finish = DecoderCell(recipe, self.size)
        raw = to_arrays(network(Tensor(np.zeros((1, 3, *self.size), np.float32))))
        self.raw_shapes = [map_.shape for map_ in raw]
        self.final_shapes = [array.shape for array in to_arrays(self.finish(*map(Tensor, raw)))]

    def predict(self, batch: ImagelessBatch) -> tuple[np.ndarray, ...]:
        """See `Predictor`.

        Raises:
            UserError: files of the image are missing or have another size.
        """
        index = int(batch.indices[0])
        sample = self.dataset.samples[index]
        self.numbers.check_size(index, batch.geometry[0], sample.image_path.name)
        paths = self.files.of(index, self.numbers.of(index), sample.image_path.name)
        final = read_bins(paths, self.final_shapes)
        raw = read_bins(paths, self.raw_shapes)
        if raw is not None:
            return tuple(to_arrays(self.finish(*map(Tensor, raw))))
        if final is not None:
            return tuple(final)
        sizes = ", ".join(f"{path.name} {path.stat().st_size}" for path in paths)
        raise UserError(
            f"{self.files.folder}: the files of {sample.image_path.name} ({sizes} bytes) are neither the raw maps "
            f"{self.raw_shapes} nor boxes and scores {self.final_shapes} in float32 or float16; is testing_shape "
            f"({self.size[0]}) that of the file which was run?"
        )


class ClassificationFilePredictor:
    """The result files of another program: `NAME_0.bin` holds the C probabilities or logits of an image, which is not
    read itself. Which of both does not matter: places and accuracies are the same.

    Args:
        recipe: of the model; `result_path` of its configuration is the folder of the files.
        dataset: the validation images.

    Attributes:
        loader: gives the batches, of one image each.

    Raises:
        UserError: the folder holds no such files, or two images share a name.
    """

    def __init__(self, recipe: Recipe, dataset: ImageFolder) -> None:
        self.dataset = dataset
        self.folder = Path(recipe.cfg.result_path)
        self.files = result_files(self.folder)
        self.names = result_names(dataset.files, dataset.root)
        self.loader = ImagelessLoader(dataset.files)

    def predict(self, batch: ImagelessBatch) -> tuple[np.ndarray, ...]:
        """See `Predictor`.

        Raises:
            UserError: the file of the image is missing or has another size.
        """
        index = int(batch.indices[0])
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
        return (arrays[0],)


def detection_result_names(dataset: DetectionDataset) -> list[str]:
    """The NAME of each image of a detector's dataset; see `result_names`."""
    root = dataset.image_dir
    paths = [sample.image_path for sample in dataset.samples]
    return result_names([path.relative_to(root) if path.is_relative_to(root) else path for path in paths], root)
