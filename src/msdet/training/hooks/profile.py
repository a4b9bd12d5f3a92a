"""The hook that profiles the first steps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from msdet.training.loop import Hook, Trainer

log = logging.getLogger(__name__)


class Profile(Hook):
    """Profiles the first steps with the MindSpore profiler.

    Args:
        folder: folder of the trace.
        steps: number of steps to profile, after the first one, which compiles.
    """

    def __init__(self, folder: Path, steps: int = 5) -> None:
        self.folder = folder
        self.steps = steps
        self._profiler: Any = None

    def after_step(self, trainer: Trainer) -> None:
        import mindspore.profiler as profiling

        self._taken = getattr(self, "_taken", -1) + 1
        if self._taken == 0:
            self._profiler = profiling.profile(
                on_trace_ready=profiling.tensorboard_trace_handler(str(self.folder)),
            )
            self._profiler.start()
        elif self._taken == self.steps:
            self._stop()

    def after_train(self, trainer: Trainer) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
            log.info("profile of %d steps: %s", self.steps, self.folder)
