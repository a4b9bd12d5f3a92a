"""The predictor that runs the network of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor, nn

from msdet.checkpoints.weights_file import fill_network

if TYPE_CHECKING:
    from msdet.models.recipe import Recipe


class PredictCell(nn.Cell):
    """Preprocess, network and decoder: uint8 images (N, H, W, 3) RGB, valid sizes int32 (N, 2) -> decoder outputs."""

    def __init__(self, preprocess: nn.Cell, network: nn.Cell, decoder: nn.Cell, size: tuple[int, int]) -> None:
        super().__init__(auto_prefix=False)
        self.preprocess = preprocess
        self.network = network
        self.decoder = decoder
        self.size = size

    def construct(self, images: Tensor, valid_sizes: Tensor) -> Any:
        return self.decoder(self.network(self.preprocess(images, valid_sizes)), self.size)


class CheckpointPredictor:
    """Builds the network of a recipe in evaluation mode and runs it with one fixed batch size.

    Args:
        recipe: recipe of the model.
    """

    def __init__(self, recipe: Recipe) -> None:
        cfg = recipe.cfg
        self.batch_size = cfg.eval_batch_size
        self.network = recipe.build_network()
        self.cell = PredictCell(recipe.build_preprocess(), self.network, recipe.build_decoder(), cfg.testing_size)
        self.cell.set_train(False)

    def load(self, weights: Mapping[str, np.ndarray], source: Path) -> None:
        """Loads weights into the network.

        Args:
            weights: name -> value.
            source: their file, for messages.

        Raises:
            UserError: they do not fit.
        """
        fill_network(self.network, weights, source, "Is this a checkpoint of another model or another width?")

    def predict(self, batch: Any) -> tuple[np.ndarray, ...]:
        """See `Predictor`."""
        count = len(batch.images)
        outputs = self.cell(*map(Tensor, pad_batch(batch, self.batch_size)))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.asnumpy()[:count] for output in outputs)


def pad_batch(batch: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and valid sizes of a batch, padded to the compiled batch size."""
    lacking = size - len(batch.images)
    images = np.concatenate((batch.images, np.zeros((lacking, *batch.images.shape[1:]), np.uint8)))
    valid_sizes = np.concatenate((batch.valid_sizes, np.tile(np.array([batch.size], np.int32), (lacking, 1))))
    return images, valid_sizes
