"""Classification as a task: from probabilities to the accuracy, over every image."""

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

# In the place of an answer, where an image could not be read.
_UNREADABLE = (-1, -1)
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


class ClassificationTask(Task["np.ndarray", ClassResult, ClassResult]):
    """See `Task`. What is known of an image is int32 (2,): the predicted class, and the place of the true one."""

    SCORES: ClassVar[tuple[str, ...]] = ("top_1_accuracy", "top_5_accuracy")

    def loader(self, runtime: Runtime, stop: StopRequest) -> BatchLoader:
        return evaluation_loader(self.cfg, self.dataset, self.recipe.eval_pipeline(), runtime, stop)

    def read(self, batch: Any, outputs: tuple[np.ndarray, ...]) -> Iterator[np.ndarray]:
        (probabilities,) = outputs
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"the probabilities of {batch.image_ids[0]} are not finite: the weights are damaged, or their training "
                "has diverged"
            )
        yield from _answers(probabilities, self.dataset.labels[batch.indices])

    def pack(self, found: Iterable[tuple[int, np.ndarray | None]]) -> bytes:
        rows = [(index, *(_UNREADABLE if one is None else one)) for index, one in found]
        return np.array(rows, np.int32).tobytes()

    def unpack(self, shares: Sequence[bytes]) -> Iterator[tuple[int, np.ndarray | None]]:
        table = np.concatenate([np.frombuffer(data, np.int32).reshape(-1, 3) for data in shares])
        for index, *answer in table[np.argsort(table[:, 0])].tolist():
            yield index, None if tuple(answer) == _UNREADABLE else np.array(answer, np.int32)

    def collect(self, found: Iterable[tuple[int, np.ndarray | None]], file: Path | None) -> ClassResult:
        """The answers of all images that could be read; no file is written.

        Raises:
            UserError: there is none.
        """
        del file
        answers = dict(found)
        if len(answers) != len(self.dataset):
            raise RuntimeError("the ranks did not see every image once")
        readable = {index: answer for index, answer in sorted(answers.items()) if answer is not None}
        if not readable:
            raise UserError(f"not one of {len(self.dataset)} images of {self.dataset.root} can be read")
        predicted, places = np.array(list(readable.values()), np.int32).T
        return ClassResult(self.dataset.class_names, self.dataset.labels[list(readable)], predicted, places)

    def score(self, collected: ClassResult) -> ClassResult:
        return collected

    def numbers(self, result: ClassResult) -> list[float]:
        return [result.accuracy(1), result.accuracy(5)]

    def report(self, collected: ClassResult, folder: Path) -> None:
        """Logs the accuracy, and writes per_class.csv, confusion.csv (rows true, columns predicted) and
        confusion.png."""
        report_classes(collected, folder)


def _answers(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int32 (n, 2): predicted class, place of the true class. Of equal ones the lower label comes first."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    places = ((probabilities > own) | ((probabilities == own) & before)).sum(1)
    return np.stack((probabilities.argmax(1), places), 1).astype(np.int32)


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
