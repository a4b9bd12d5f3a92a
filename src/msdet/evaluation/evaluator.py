"""Runs one dataset through a predictor and hands what it finds to a task."""

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
    """The evaluation was to end before it was complete."""


class Evaluator(Generic[PredictorT]):
    """Runs the images of a task through a predictor, as often as it is asked to.

    Args:
        task: detection or classification of a dataset.
        predictor: computes.
        runtime: several ranks share the images, and rank 0 puts together what they found.
        stop: asked before each batch; made, it ends the evaluation, on all ranks, with `EvaluationStopped`.
        loader: gives the batches; None: the task's own.
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
        """What the task collects of all images, written to a result file if one is named; None on ranks other than 0.

        Raises:
            EvaluationStopped: on every rank, if one of them was stopped.
            UserError: an image cannot be read, or the outputs are not finite.
        """
        if self.runtime.group_size == 1:
            return self.task.collect(self.found(), file)
        shares = self._gather(lambda: self.task.pack(self.found()))
        return self.task.collect(self.task.unpack(shares), file) if self.runtime.is_master else None

    def found(self) -> Iterator[tuple[int, Any]]:
        """Yields (position in the dataset, what was found) for every image of this rank; None for one that could not
        be read."""
        for batch in self._batches():
            touch_heartbeat()
            found = self.task.read(batch, self.predictor.predict(batch))
            for index, one in zip(batch.indices.tolist(), found, strict=True):
                yield index, None if index in self.loader.bad_images else one

    def _gather(self, work: Callable[[], bytes]) -> list[bytes]:
        """What the work of every rank gives, on all of them; see `collect`."""
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
        # A loader that is stopped gives no more batches.
        if self.stop.is_made():
            raise EvaluationStopped
