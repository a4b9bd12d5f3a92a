"""The interfaces of tasks (detection, classification) and predictors, which an `Evaluator` combines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from msdet.data.loading.loader import BatchLoader
    from msdet.models.recipe import Recipe
    from msdet.runtime.start import Runtime
    from msdet.runtime.stop import StopRequest

PredictionT = TypeVar("PredictionT")
CollectedT = TypeVar("CollectedT")
ResultT = TypeVar("ResultT")


class Predictor(Protocol):
    """Computes decoder outputs: by the network of a checkpoint, by an exported file, or from another program's result
    files."""

    def predict(self, batch: Any) -> tuple[np.ndarray, ...]:
        """Decoder outputs for the n images of a batch.

        Returns:
            detection: boxes float32 (n, K, 4) xyxy px of the input, scores float32 (n, K, C); classification:
            probabilities float32 (n, C).
        """
        ...


class Task(ABC, Generic[PredictionT, CollectedT, ResultT]):
    """Detection or classification of the images of one dataset.

    `PredictionT` is the prediction for one image, `CollectedT` that for all images, `ResultT` their score.

    Args:
        recipe: recipe of the model; its configuration sets the thresholds and the scorer.
        dataset: the images and their annotations.

    Attributes:
        SCORE_NAMES: names of the scores that a training records; the first one selects the best weights.
    """

    SCORE_NAMES: ClassVar[tuple[str, ...]]

    def __init__(self, recipe: Recipe, dataset: Any) -> None:
        self.recipe = recipe
        self.cfg = recipe.cfg
        self.dataset = dataset

    @abstractmethod
    def loader(self, runtime: Runtime, stop: StopRequest) -> BatchLoader:
        """The evaluation loader: every image once, in order, distributed over the ranks."""

    @abstractmethod
    def read(self, batch: Any, outputs: tuple[np.ndarray, ...]) -> Iterator[PredictionT]:
        """Converts a predictor's outputs to the prediction for each image of a batch.

        Raises:
            UserError: the outputs are not finite.
        """

    @abstractmethod
    def pack(self, predictions: Iterable[tuple[int, PredictionT | None]]) -> bytes:
        """Serializes the predictions of a rank without loss.

        Args:
            predictions: (index in the dataset, prediction, or None if the image could not be read).
        """

    @abstractmethod
    def unpack(self, shares: Sequence[bytes]) -> Iterator[tuple[int, PredictionT | None]]:
        """Inverts `pack` for the bytes of all ranks; yields the images in order of their index."""

    @abstractmethod
    def collect(self, predictions: Iterable[tuple[int, PredictionT | None]], file: Path | None) -> CollectedT:
        """Collects the predictions for all images, and writes them to a result file if one is given."""

    @abstractmethod
    def score(self, collected: CollectedT) -> ResultT:
        """Scores all readable images.

        Raises:
            UserError: no image could be read.
        """

    @abstractmethod
    def headline_scores(self, result: ResultT) -> list[float]:
        """The values of `SCORE_NAMES`, each in 0..1."""

    def check_drawable(self) -> None:
        """Checks that the images to draw exist; scoring result files needs no images.

        Raises:
            UserError: images to draw are missing.
        """

    @abstractmethod
    def report(self, collected: CollectedT, folder: Path) -> None:
        """Scores, logs the result, and writes tables and images into a folder."""
