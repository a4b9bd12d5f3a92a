"""From an image folder and weights to the accuracy of a classifier, over every picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from mindspore import Tensor

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import load_weights
from msdet.errors import UsageError, UserError
from msdet.evaluation.evaluator import Evaluator
from msdet.files import atomic_path, stamped_folder, write_csv
from msdet.models.recipe import ClassificationRecipe, get_recipe
from msdet.ops.fonts import chart_fonts, drawable
from msdet.runtime.start import Runtime, beat, start, start_logging
from msdet.runtime.stop import StopRequest
from msdet.session.datasets import open_dataset
from msdet.text import one_line, printable

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.formats.imagefolder import ClassBatch, ImageFolder

log = logging.getLogger(__name__)

# In the place of a predicted class, where a picture could not be read.
_UNREADABLE = -1
# Beyond this many classes their names would be too small to read in a picture.
_NAMED_CLASSES = 40


@dataclass(frozen=True)
class ClassResult:
    """What a classifier said of each picture.

    Attributes:
        class_names: of the labels.
        labels: int32 (n,), the truth.
        predicted: int32 (n,), the class of the highest probability.
        places: int32 (n,): how many classes were held more probable than the true one; 0 is right.
    """

    class_names: Sequence[str]
    labels: np.ndarray
    predicted: np.ndarray
    places: np.ndarray

    def accuracy(self, k: int) -> float:
        """Share of the pictures whose class is among the k most probable, 0..1."""
        return float((self.places < k).mean())

    @property
    def summary_text(self) -> str:
        """The line that eval.py prints."""
        scores = {"top_5_accuracy": self.accuracy(5), "top_1_accuracy": self.accuracy(1)}
        return f"result: {scores}"

    def confusion(self) -> np.ndarray:
        """int64 (C, C): pictures of each true class (row) by predicted class (column)."""
        count = len(self.class_names)
        flat = np.bincount(self.labels.astype(np.int64) * count + self.predicted, minlength=count * count)
        return flat.reshape(count, count)


class ClassEvaluator(Evaluator):
    """Runs one image folder through a network of its own, as often as weights are given; see `Evaluator`."""

    SCORES: ClassVar[tuple[str, ...]] = ("top_1_accuracy", "top_5_accuracy")

    def __init__(
        self,
        cfg: Config,
        recipe: ClassificationRecipe,
        dataset: ImageFolder,
        runtime: Runtime,
        stop: StopRequest | None = None,
    ) -> None:
        self.cfg = cfg
        self.runtime = runtime
        self.stop = stop or StopRequest()
        self.dataset = dataset
        self._build(recipe)
        self.loader = self._open_loader(recipe)

    def probabilities(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (positions in the dataset (n,), probabilities (n, C)) of every picture of this rank, in batches."""
        for batch in self._progress(self.loader.epoch(0)):
            beat()
            found = self._classify(batch)
            if not np.isfinite(found).all():
                raise UserError(
                    f"the probabilities of {batch.image_ids[0]} are not finite: the weights are damaged, or their "
                    "training has diverged"
                )
            yield batch.indices, found

    def _classify(self, batch: ClassBatch) -> np.ndarray:
        """Probabilities (n, C) of a batch."""
        images, valid_sizes = self._filled_up(batch)
        return self.predict(Tensor(images), Tensor(valid_sizes)).asnumpy()[: len(batch.images)]

    def score(self, _: Path | None = None) -> ClassResult | None:
        """Classifies every picture; None on ranks other than 0."""
        shares = [np.frombuffer(data, np.int32).reshape(-1, 3) for data in self.gather_whole(self._share)]
        if not self.runtime.is_master:
            return None
        table = np.concatenate(shares)
        table = table[np.argsort(table[:, 0])]
        if not np.array_equal(table[:, 0], np.arange(len(self.dataset))):
            raise RuntimeError("the ranks did not see every picture once")
        table = table[table[:, 1] != _UNREADABLE]
        if not len(table):
            raise UserError(f"not one of {len(self.dataset)} pictures of {self.dataset.root} can be read")
        return ClassResult(self.dataset.class_names, self.dataset.labels[table[:, 0]], table[:, 1], table[:, 2])

    def _share(self) -> bytes:
        rows = [_rows(indices, found, self.dataset.labels[indices]) for indices, found in self.probabilities()]
        table = np.concatenate([*rows, np.zeros((0, 3), np.int32)])
        # What could not be read is not scored.
        table[np.isin(table[:, 0], list(self.loader.bad)), 1] = _UNREADABLE
        return table.tobytes()

    @staticmethod
    def numbers(result: ClassResult | None) -> list[float]:
        """The values of `SCORES`; zeros on a rank that has no result."""
        return [result.accuracy(1), result.accuracy(5)] if result else [0.0, 0.0]


def _rows(indices: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int32 (n, 3): position, predicted class, place of the true class. Of equal ones the lower label comes first."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    places = ((probabilities > own) | ((probabilities == own) & before)).sum(1)
    return np.stack((indices, probabilities.argmax(1), places), 1).astype(np.int32)


def evaluate_classifier(cfg: Config) -> int:
    """What eval.py does for a classifier: prints and saves the accuracy.

    Raises:
        UserError: a file is missing or wrong.
    """
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to evaluate with --pretrained")
    source = Path(cfg.pretrained)
    runtime = start(cfg, "evaluate")
    folder = Path(runtime.by_master(lambda: str(stamped_folder(Path(cfg.log_path), "eval"))))
    start_logging(folder / "log.txt" if runtime.is_master else None, runtime.rank)
    weights, card = load_weights(source)
    dataset, cfg = open_dataset(apply_card(cfg, card, source, with_classes=True), "val")
    with ClassEvaluator(cfg, get_recipe(cfg), dataset, runtime) as evaluator:
        evaluator.load(weights, source)
        log.info("evaluating %s on %d images of %s", source, len(dataset), dataset.root)
        result = evaluator.score()
    if result is None:
        return 0
    report_classes(result, folder)
    cfg.save(folder / "config.yaml")
    return 0


def report_classes(result: ClassResult, folder: Path) -> None:
    """Logs the accuracy, and writes per_class.csv, confusion.csv (rows true, columns predicted) and confusion.png."""
    confusion = result.confusion()
    head = ["class", "images", "top_1_accuracy", "top_5_accuracy", "precision", "most_taken_for"]
    write_csv(folder / "per_class.csv", [head, *_class_rows(result, confusion)])
    rows = [[name, *row] for name, row in zip(result.class_names, confusion.tolist(), strict=True)]
    write_csv(folder / "confusion.csv", [["true class", *result.class_names], *rows])
    draw_confusion(confusion, result.class_names, folder / "confusion.png")
    log.info("\n%s", result.summary_text)
    log.info("table of the classes, confusion matrix and log: %s", folder)


def _class_rows(result: ClassResult, confusion: np.ndarray) -> Iterator[list[object]]:
    for label, name in enumerate(result.class_names):
        places = result.places[result.labels == label]
        said = int(confusion[:, label].sum())
        wrong = confusion[label].copy()
        wrong[label] = 0
        yield [
            name,
            len(places),
            float((places < 1).mean()) if len(places) else "",
            float((places < 5).mean()) if len(places) else "",
            confusion[label, label] / said if said else "",
            result.class_names[int(wrong.argmax())] if wrong.any() else "",
        ]


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix, each row in shares of its class; few classes are named.

    Args:
        confusion: (C, C), rows true, columns predicted.
        class_names: of the labels.
        path: the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    with chart_fonts(class_names if len(class_names) <= _NAMED_CLASSES else ()):
        figure = Figure(figsize=(9, 8), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        picture = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axis.set(xlabel="predicted class", ylabel="true class", title="share of the true class")
        if len(class_names) <= _NAMED_CLASSES:
            names = [drawable(one_line(printable(name))) for name in class_names]
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize="small", parse_math=False)
            axis.set_yticks(range(len(names)), names, fontsize="small", parse_math=False)
        figure.colorbar(picture)
        with atomic_path(path) as beside:
            figure.savefig(beside, dpi=100)
