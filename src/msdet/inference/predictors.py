"""Predictors for evaluation other than a checkpoint: exported files, and result files of an external program."""

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
    """Predicts with a runner.

    Args:
        runner: of an exported file or a checkpoint.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def predict(self, batch: Any) -> tuple[np.ndarray, ...]:
        """See `Predictor`."""
        return self.runner.predict(batch.images, batch.valid_sizes)


class DetectionFilePredictor:
    """Reads the result files of an external program: raw maps, or boxes and scores. Images are not read, only their
    sizes are needed.

    Args:
        recipe: of the model; `result_path` of its configuration is the folder of the files.
        dataset: the validation images.

    Attributes:
        loader: yields batches of one image.

    Raises:
        UserError: the folder has no result files, or two images share a name.
    """

    def __init__(self, recipe: Recipe, dataset: DetectionDataset) -> None:
        cfg, place = recipe.cfg, recipe.eval_pipeline().place
        assert isinstance(place, Resize), "evaluation has no random transforms"
        self.dataset = dataset
        self.files = ResultFiles(Path(cfg.result_path), detection_result_names(dataset))
        self.numbers = ImageNumbering(cfg, dataset)
        self.size = cfg.testing_size
        self.loader = imageless_detection_loader(dataset, place, self.size)
        network = recipe.build_network().set_train(False)
        self.decoder = DecoderCell(recipe, self.size)
        raw = to_arrays(network(Tensor(np.zeros((1, 3, *self.size), np.float32))))
        self.raw_shapes = [map_.shape for map_ in raw]
        self.decoded_shapes = [array.shape for array in to_arrays(self.decoder(*map(Tensor, raw)))]

    def predict(self, batch: ImagelessBatch) -> tuple[np.ndarray, ...]:
        """See `Predictor`.

        Raises:
            UserError: files of the image are missing or have a wrong size.
        """
        index = int(batch.indices[0])
        sample = self.dataset.samples[index]
        self.numbers.check_size(index, batch.geometry[0], sample.image_path.name)
        paths = self.files.paths_of(index, self.numbers.number_of(index), sample.image_path.name)
        decoded = read_bins(paths, self.decoded_shapes)
        raw = read_bins(paths, self.raw_shapes)
        if raw is not None:
            return tuple(to_arrays(self.decoder(*map(Tensor, raw))))
        if decoded is not None:
            return tuple(decoded)
        sizes = ", ".join(f"{path.name} {path.stat().st_size}" for path in paths)
        raise UserError(
            f"{self.files.folder}: the files of {sample.image_path.name} ({sizes} bytes) are neither the raw maps "
            f"{self.raw_shapes} nor boxes and scores {self.decoded_shapes} in float32 or float16; is testing_shape "
            f"({self.size[0]}) that of the file which was run?"
        )


class ClassificationFilePredictor:
    """Reads the result files of an external program: `NAME_0.bin` has the C probabilities or logits of an image (the
    accuracy is the same with either). Images are not read.

    Args:
        recipe: of the model; `result_path` of its configuration is the folder of the files.
        dataset: the validation images.

    Attributes:
        loader: yields batches of one image.

    Raises:
        UserError: the folder has no result files, or two images share a name.
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
            UserError: the file of the image is missing or has a wrong size.
        """
        index = int(batch.indices[0])
        name, count = self.names[index], len(self.dataset.class_names)
        path = self.files.get(name, {}).get(0)
        if path is None:
            raise UserError(f"{self.folder} has no {name}_0.bin, the result of {self.dataset.files[index]}")
        arrays = read_bins([path], [(1, count)])
        if arrays is None:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes; {count} classes in float32 take {4 * count}, in float16 "
                f"{2 * count}"
            )
        return (arrays[0],)


def detection_result_names(dataset: DetectionDataset) -> list[str]:
    """`result_names` for a detection dataset."""
    root = dataset.image_dir
    paths = [sample.image_path for sample in dataset.samples]
    return result_names([path.relative_to(root) if path.is_relative_to(root) else path for path in paths], root)
