"""The session of a command: device, log, weights and dataset, opened step by step. Each step completes the
configuration for the next."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import load_weights
from msdet.models.recipe import get_recipe, task_of
from msdet.runtime.start import Runtime, start, start_logging
from msdet.runtime.stop import StopRequest
from msdet.session.datasets import open_dataset

if TYPE_CHECKING:
    import numpy as np

    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset
    from msdet.data.formats.imagefolder import ImageFolder
    from msdet.runtime.ranks import Workload


class Session:
    """Device, log folder, weights and dataset of one command.

    Args:
        cfg: configuration as given by the user.
        workload: purpose of the process; see `joins_group`.
        stop: the stop request to observe.
        host: configuration that MindSpore starts with if another runtime runs the network; None: `cfg`.

    Attributes:
        cfg: configuration, completed by the weights and the dataset opened so far.
        runtime: device and ranks.
        source: file of the weights.
        weights: name -> value.
        card: content of the weights' card.
    """

    def __init__(
        self, cfg: Config, workload: Workload = "alone", stop: StopRequest | None = None, host: Config | None = None
    ) -> None:
        self.cfg = cfg
        self.stop = stop or StopRequest()
        self.runtime: Runtime = start(host or cfg, workload)
        self._folder: Path | None = None
        self.source = Path(cfg.pretrained)
        self.weights: Mapping[str, np.ndarray] = {}
        self.card: Mapping[str, Any] = {}
        self._dataset: DetectionDataset | ImageFolder | None = None

    def log_to(self, folder: Path | None, of_every_rank: bool = False) -> None:
        """Sets the output folder and logs to its `log.txt` on rank 0, and to `log_RANK.txt` on the others if
        `of_every_rank` is set; None: logs to standard output only."""
        self._folder, rank = folder, self.runtime.rank
        file = folder / (f"log_{rank}.txt" if rank else "log.txt") if folder is not None else None
        start_logging(file if of_every_rank or self.runtime.is_master else None, rank)

    def load_weights(self, with_classes: bool = True) -> None:
        """Reads `pretrained` and applies its card to the configuration.

        Args:
            with_classes: also apply the classes; a training takes them from its dataset.

        Raises:
            UserError: the file is missing or damaged, or belongs to another model.
        """
        self.weights, self.card = load_weights(self.source)
        self.cfg = apply_card(self.cfg, self.card, self.source, with_classes)

    def open_dataset(self, split: str, need_images: bool = True) -> None:
        """Reads and checks a split and completes the classes in the configuration; see `open_dataset`."""
        self._dataset, self.cfg = open_dataset(self.cfg, split, need_images)

    @property
    def folder(self) -> Path:
        """Output folder; available after `log_to`."""
        assert self._folder is not None
        return self._folder

    @property
    def dataset(self) -> DetectionDataset | ImageFolder:
        """The dataset; available after `open_dataset`."""
        assert self._dataset is not None
        return self._dataset

    @functools.cached_property
    def recipe(self) -> Any:
        """Recipe of the model, created on first use; the configuration must be complete by then."""
        return get_recipe(self.cfg)

    @property
    def task_name(self) -> str:
        """ "detect" or "classify"."""
        return task_of(self.cfg)
