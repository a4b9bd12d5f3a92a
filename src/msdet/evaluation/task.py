"""What is done with the images of a dataset, and who computes it: a task is composed with a predictor."""

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

FoundT = TypeVar("FoundT")
CollectedT = TypeVar("CollectedT")
ResultT = TypeVar("ResultT")


class Predictor(Protocol):
    """Computes what a task reads: a checkpoint's network, an exported file, or the result files of another program."""

    def predict(self, batch: Any) -> tuple[np.ndarray, ...]:
        """What the decoder gives for each of the n images of a batch.

        Returns:
            detection: boxes float32 (n, K, 4) xyxy px of the input, scores float32 (n, K, C); classification:
            probabilities float32 (n, C).
        """
        ...


class Task(ABC, Generic[FoundT, CollectedT, ResultT]):
    """Detection or classification of the images of one dataset.

    `FoundT` is what is known of one image, `CollectedT` that of all of them, `ResultT` what it scores.

    Args:
        recipe: of the model; its configuration says the thresholds and the scorer.
        dataset: the images and their annotations, as they were read: what was read is what is scored.

    Attributes:
        SCORES: names of the numbers that a training follows; the best weights are those of the first.
    """

    SCORES: ClassVar[tuple[str, ...]]

    def __init__(self, recipe: Recipe, dataset: Any) -> None:
        self.recipe = recipe
        self.cfg = recipe.cfg
        self.dataset = dataset

    @abstractmethod
    def loader(self, runtime: Runtime, stop: StopRequest) -> BatchLoader:
        """Every image once, in order; several ranks take turns."""

    @abstractmethod
    def read(self, batch: Any, outputs: tuple[np.ndarray, ...]) -> Iterator[FoundT]:
        """What a predictor's outputs mean for each image of a batch.

        Raises:
            UserError: the outputs are not finite.
        """

    @abstractmethod
    def pack(self, found: Iterable[tuple[int, FoundT | None]]) -> bytes:
        """What was found on a rank's images, every bit of it.

        Args:
            found: (position in the dataset, what was found, or None where the image could not be read).
        """

    @abstractmethod
    def unpack(self, shares: Sequence[bytes]) -> Iterator[tuple[int, FoundT | None]]:
        """What `pack` was given on all ranks, by rising position."""

    @abstractmethod
    def collect(self, found: Iterable[tuple[int, FoundT | None]], file: Path | None) -> CollectedT:
        """Puts together what was found on all images, and writes it to a result file if one is named."""

    @abstractmethod
    def score(self, collected: CollectedT) -> ResultT:
        """Scores all images that could be read.

        Raises:
            UserError: there is none.
        """

    @abstractmethod
    def numbers(self, result: ResultT) -> list[float]:
        """The values of `SCORES`, each in 0..1."""

    def refuse_undrawable(self) -> None:
        """Scoring result files needs no images; drawing does.

        Raises:
            UserError: images that are to be drawn are missing.
        """

    @abstractmethod
    def report(self, collected: CollectedT, folder: Path) -> None:
        """Scores, logs the result, and writes tables and images into a folder."""
