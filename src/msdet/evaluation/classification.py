"""The classification task: from probabilities to accuracy, confusion matrix and report."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.task import Task
from msdet.files import atomic_path, write_csv
from msdet.ops.fonts import chart_fonts, drawable
from msdet.session.datasets import evaluation_loader
from msdet.text import one_line, printable

if TYPE_CHECKING:
    from msdet.data.loading.loader import BatchLoader
    from msdet.runtime.start import Runtime
    from msdet.runtime.stop import StopRequest

log = logging.getLogger(__name__)

# Replaces the prediction of an image that could not be read.
_UNREADABLE = (-1, -1)
# With more classes, their names in a chart would be too small to read.
_NAMED_CLASSES = 40


@dataclass(frozen=True)
class ClassResult:
    """The predictions of a classifier for n images.

    Attributes:
        class_names: names of the labels.
        labels: int32 (n,), ground truth.
        predicted: int32 (n,), the class with the highest probability.
        ranks: int32 (n,): number of classes predicted as more probable than the true class; 0 = correct.
    """

    class_names: Sequence[str]
    labels: np.ndarray
    predicted: np.ndarray
    ranks: np.ndarray

    def accuracy(self, k: int) -> float:
        """Top-k accuracy, 0..1."""
        return float((self.ranks < k).mean())

    @property
    def summary_text(self) -> str:
        """The line that eval.py prints."""
        scores = {"top_5_accuracy": self.accuracy(5), "top_1_accuracy": self.accuracy(1)}
        return f"result: {scores}"

    def confusion(self) -> np.ndarray:
        """Confusion matrix, int64 (C, C): number of images by true class (row) and predicted class (column)."""
        count = len(self.class_names)
        flat = np.bincount(self.labels.astype(np.int64) * count + self.predicted, minlength=count * count)
        return flat.reshape(count, count)


class ClassificationTask(Task["np.ndarray", ClassResult, ClassResult]):
    """Classification, see `Task`. A prediction is int32 (2,): predicted class, rank of the true class."""

    SCORE_NAMES: ClassVar[tuple[str, ...]] = ("top_1_accuracy", "top_5_accuracy")

    def loader(self, runtime: Runtime, stop: StopRequest) -> BatchLoader:
        return evaluation_loader(self.cfg, self.dataset, self.recipe.eval_pipeline(), runtime, stop)

    def read(self, batch: Any, outputs: tuple[np.ndarray, ...]) -> Iterator[np.ndarray]:
        (probabilities,) = outputs
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"the probabilities of {batch.image_ids[0]} are not finite: the weights are damaged, or their training "
                "has diverged"
            )
        yield from _class_and_rank(probabilities, self.dataset.labels[batch.indices])

    def pack(self, predictions: Iterable[tuple[int, np.ndarray | None]]) -> bytes:
        rows = [(index, *(_UNREADABLE if prediction is None else prediction)) for index, prediction in predictions]
        return np.array(rows, np.int32).tobytes()

    def unpack(self, shares: Sequence[bytes]) -> Iterator[tuple[int, np.ndarray | None]]:
        table = np.concatenate([np.frombuffer(data, np.int32).reshape(-1, 3) for data in shares])
        for index, *row in table[np.argsort(table[:, 0])].tolist():
            yield index, None if tuple(row) == _UNREADABLE else np.array(row, np.int32)

    def collect(self, predictions: Iterable[tuple[int, np.ndarray | None]], file: Path | None) -> ClassResult:
        """Collects the predictions for all readable images; no file is written.

        Raises:
            UserError: no image could be read.
        """
        del file
        by_index = dict(predictions)
        if len(by_index) != len(self.dataset):
            raise RuntimeError("the ranks did not see every image once")
        readable = {index: row for index, row in sorted(by_index.items()) if row is not None}
        if not readable:
            raise UserError(f"none of the {len(self.dataset)} images of {self.dataset.root} can be read")
        predicted, ranks = np.array(list(readable.values()), np.int32).T
        return ClassResult(self.dataset.class_names, self.dataset.labels[list(readable)], predicted, ranks)

    def score(self, collected: ClassResult) -> ClassResult:
        return collected

    def headline_scores(self, result: ClassResult) -> list[float]:
        return [result.accuracy(1), result.accuracy(5)]

    def report(self, collected: ClassResult, folder: Path) -> None:
        """Logs the accuracy, and writes per_class.csv, confusion.csv (rows true, columns predicted) and
        confusion.png."""
        report_classes(collected, folder)


def _class_and_rank(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Predicted class and rank of the true class, int32 (n, 2); of equal probabilities the lower label comes first."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    ranks = ((probabilities > own) | ((probabilities == own) & before)).sum(1)
    return np.stack((probabilities.argmax(1), ranks), 1).astype(np.int32)


def report_classes(result: ClassResult, folder: Path) -> None:
    """Logs the accuracy, and writes per_class.csv, confusion.csv (rows true, columns predicted) and confusion.png."""
    confusion = result.confusion()
    header = ["class", "images", "top_1_accuracy", "top_5_accuracy", "precision", "most_taken_for"]
    write_csv(folder / "per_class.csv", [header, *_class_rows(result, confusion)])
    rows = [[name, *row] for name, row in zip(result.class_names, confusion.tolist(), strict=True)]
    write_csv(folder / "confusion.csv", [["true class", *result.class_names], *rows])
    draw_confusion(confusion, result.class_names, folder / "confusion.png")
    log.info("\n%s", result.summary_text)
    log.info("per-class table, confusion matrix and log: %s", folder)


def _class_rows(result: ClassResult, confusion: np.ndarray) -> Iterator[list[object]]:
    for label, name in enumerate(result.class_names):
        ranks = result.ranks[result.labels == label]
        predicted = int(confusion[:, label].sum())
        wrong = confusion[label].copy()
        wrong[label] = 0
        yield [
            name,
            len(ranks),
            float((ranks < 1).mean()) if len(ranks) else "",
            float((ranks < 5).mean()) if len(ranks) else "",
            confusion[label, label] / predicted if predicted else "",
            result.class_names[int(wrong.argmax())] if wrong.any() else "",
        ]


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix with normalized rows; up to 40 classes are labelled with their names.

    Args:
        confusion: (C, C), rows true, columns predicted.
        class_names: names of the labels.
        path: the image file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    with chart_fonts(class_names if len(class_names) <= _NAMED_CLASSES else ()):
        figure = Figure(figsize=(9, 8), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        mesh = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axis.set(xlabel="predicted class", ylabel="true class", title="share of the true class")
        if len(class_names) <= _NAMED_CLASSES:
            names = [drawable(one_line(printable(name))) for name in class_names]
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize="small", parse_math=False)
            axis.set_yticks(range(len(names)), names, fontsize="small", parse_math=False)
        figure.colorbar(mesh)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=100)
