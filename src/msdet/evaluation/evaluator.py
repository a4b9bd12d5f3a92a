"""The evaluator: runs a dataset through a predictor and passes the predictions to a task."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tqdm import tqdm

from msdet.runtime.start import touch_heartbeat
from msdet.runtime.stop import StopRequest

if TYPE_CHECKING:
    from msdet.evaluation.task import Predictor, Task
    from msdet.runtime.start import Runtime

log = logging.getLogger(__name__)
PredictorT = TypeVar("PredictorT", bound="Predictor")

_SECONDS_BETWEEN_LINES = 10


class EvaluationStopped(Exception):
    """The evaluation was stopped by a request before it was complete."""


class Evaluator(Generic[PredictorT]):
    """Runs the images of a task through a predictor; can be used repeatedly.

    Args:
        task: detection or classification of a dataset.
        predictor: computes the network's outputs.
        runtime: device and ranks; several ranks share the images, and rank 0 collects their predictions.
        stop: checked before each batch; a request ends the evaluation on all ranks with `EvaluationStopped`.
        loader: batches; None: those of the task.
    """

    def __init__(
        self,
        task: Task,
        predictor: PredictorT,
        runtime: Runtime,
        stop: StopRequest | None = None,
        loader: Any = None,
    ) -> None:
        self.task = task
        self.predictor = predictor
        self.runtime = runtime
        self.stop = stop or StopRequest()
        self.loader = loader or task.loader(runtime, self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.loader.close()

    def collect(self, file: Path | None = None) -> Any:
        """Evaluates all images and returns the collected predictions of the task, also written to a result file if one
        is given; None on ranks other than 0.

        Raises:
            EvaluationStopped: on every rank, if one of them was stopped.
            UserError: an image cannot be read, or the outputs are not finite.
        """
        if self.runtime.group_size == 1:
            return self.task.collect(self.predictions(), file)
        shares = self._gather(lambda: self.task.pack(self.predictions()))
        return self.task.collect(self.task.unpack(shares), file) if self.runtime.is_master else None

    def predictions(self) -> Iterator[tuple[int, Any]]:
        """Yields (index in the dataset, prediction) for every image of this rank; None for an unreadable image."""
        for batch in self._batches():
            touch_heartbeat()
            predictions = self.task.read(batch, self.predictor.predict(batch))
            for index, prediction in zip(batch.indices.tolist(), predictions, strict=True):
                yield index, None if index in self.loader.bad_images else prediction

    def _gather(self, work: Callable[[], bytes]) -> list[bytes]:
        """Gathers the result of `work` from all ranks; see `collect`."""
        try:
            share = b"+" + work()
        except EvaluationStopped:
            share = b"-"
        shares = self.runtime.gather(share)
        if not all(share.startswith(b"+") for share in shares):
            raise EvaluationStopped
        return [share[1:] for share in shares]

    def _batches(self) -> Iterator[Any]:
        cfg = self.task.cfg
        bar = cfg.progress == "bar" or (cfg.progress == "auto" and sys.stderr.isatty())
        done, logged = 0, time.monotonic()
        batches = self.loader.epoch(0)
        for batch in tqdm(batches, total=self.loader.steps_per_epoch, unit="batch", disable=not bar, desc="evaluate"):
            if self.stop.is_made():
                break
            yield batch
            done += len(batch.image_ids)
            if not bar and cfg.progress != "off" and time.monotonic() - logged > _SECONDS_BETWEEN_LINES:
                log.info("evaluated %d of %d images", done, len(self.task.dataset))
                logged = time.monotonic()
        # A stopped loader yields no more batches.
        if self.stop.is_made():
            raise EvaluationStopped
