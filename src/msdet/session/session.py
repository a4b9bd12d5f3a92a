"""What a command works with, opened step by step; each step completes the configuration for the next."""

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
    from msdet.runtime.ranks import Work


class Session:
    """Device, log folder, weights and dataset of one command.

    Args:
        cfg: as the user gave it.
        work: what the process is for; see `joins_group`.
        stop: the request to end.
        host: what MindSpore starts with, where another runtime computes; None: `cfg`.

    Attributes:
        cfg: with what weights and dataset have added so far.
        runtime: device and ranks.
        source: the file of the weights; weights: name -> value; card: what is written beside them.
    """

    def __init__(
        self, cfg: Config, work: Work = "alone", stop: StopRequest | None = None, host: Config | None = None
    ) -> None:
        self.cfg = cfg
        self.stop = stop or StopRequest()
        self.runtime: Runtime = start(host or cfg, work)
        self._folder: Path | None = None
        self.source = Path(cfg.pretrained)
        self.weights: Mapping[str, np.ndarray] = {}
        self.card: Mapping[str, Any] = {}
        self._dataset: DetectionDataset | ImageFolder | None = None

    def log_to(self, folder: Path, of_every_rank: bool = False) -> None:
        """Logs to `log.txt` in the folder: the first rank alone, or each, the others to `log_RANK.txt`."""
        self._folder, rank = folder, self.runtime.rank
        name = f"log_{rank}.txt" if rank else "log.txt"
        start_logging(folder / name if of_every_rank or self.runtime.is_master else None, rank)

    def load_weights(self, with_classes: bool = True) -> None:
        """Reads `pretrained`, and takes from its card what belongs to the weights.

        Args:
            with_classes: their classes too; a training has those of its data.

        Raises:
            UserError: the file is missing or damaged, or of another model than the configuration's.
        """
        self.weights, self.card = load_weights(self.source)
        self.cfg = apply_card(self.cfg, self.card, self.source, with_classes)

    def open_dataset(self, split: str, need_images: bool = True) -> None:
        """Reads and checks a split, and takes from it the classes that the configuration leaves open; see
        `open_dataset`."""
        self._dataset, self.cfg = open_dataset(self.cfg, split, need_images)

    @property
    def folder(self) -> Path:
        """Where the command writes; to be asked for behind `log_to`."""
        assert self._folder is not None
        return self._folder

    @property
    def dataset(self) -> DetectionDataset | ImageFolder:
        """What `open_dataset` has read."""
        assert self._dataset is not None
        return self._dataset

    @functools.cached_property
    def recipe(self) -> Any:
        """Of the model; to be asked for when the configuration is complete."""
        return get_recipe(self.cfg)

    @property
    def task_name(self) -> str:
        """ "detect" or "classify"."""
        return task_of(self.cfg)
