"""What an exported file contains, its inputs, and the cells that are written to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msdet.models.recipe import Recipe


@dataclass(frozen=True)
class ExportSpec:
    """What an exported file contains.

    Attributes:
        size: (h, w) of the input in px.
        batch_size: batch size; 0: dynamic.
        preprocess: whether it includes the preprocessing. The input is uint8 (N, h, w, 3) RGB with it, and normalised
            float32 (N, 3, h, w) without.
        detect: whether it includes the decoder. The outputs are boxes and scores with it, and raw maps without.
        valid_sizes: whether it has a second input, int32 (N, 2): height and width that each image covers. Only with
            `preprocess`.
    """

    size: tuple[int, int]
    batch_size: int
    preprocess: bool
    detect: bool
    valid_sizes: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For the sidecar."""
        return {**asdict(self), "size": list(self.size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExportSpec:
        """From the sidecar.

        Raises:
            KeyError, TypeError, ValueError: invalid content.
        """
        height, width = values["size"]
        return cls(
            (int(height), int(width)),
            int(values["batch_size"]),
            bool(values["preprocess"]),
            bool(values["detect"]),
            bool(values["valid_sizes"]),
        )

    def input_specs(self) -> list[tuple[str, tuple[int | None, ...], Any]]:
        """Name, shape (None: dynamic) and dtype of each input."""
        n, (h, w) = self.batch_size or None, self.size
        if not self.preprocess:
            return [("images", (n, 3, h, w), ms.float32)]
        specs: list[tuple[str, tuple[int | None, ...], Any]] = [("images", (n, h, w, 3), ms.uint8)]
        return [*specs, ("valid_sizes", (n, 2), ms.int32)] if self.valid_sizes else specs

    def inputs(self, images: np.ndarray, valid_sizes: np.ndarray, normalised: np.ndarray | None) -> list[np.ndarray]:
        """Selects the arrays that are the inputs.

        Args:
            images: uint8 (N, h, w, 3) RGB.
            valid_sizes: int32 (N, 2).
            normalised: float32 (N, 3, h, w); required without `preprocess`.
        """
        if not self.preprocess:
            assert normalised is not None
            return [normalised]
        return [images, valid_sizes] if self.valid_sizes else [images]


class DeployCell(nn.Cell):
    """Preprocessing, network and decoder as one cell, as far as the spec includes them; parameters keep their names."""

    def __init__(self, recipe: Recipe, network: nn.Cell, spec: ExportSpec) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.has_preprocess = spec.preprocess
        self.has_decoder = spec.detect
        self.size = spec.size
        if spec.preprocess:
            self.preprocess = recipe.build_preprocess()
        if spec.detect:
            self.decoder = recipe.build_decoder()
        self.set_train(False)

    def construct(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.preprocess(*inputs) if self.has_preprocess else inputs[0]
        raw = self.network(x)
        return self.decoder(raw, self.size) if self.has_decoder else raw


class DecoderCell(nn.Cell):
    """The decoder, for files without it: raw maps -> boxes (N, K, 4), scores (N, K, C)."""

    def __init__(self, recipe: Recipe, size: tuple[int, int]) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = recipe.build_decoder()
        self.size = size
        self.set_train(False)

    def construct(self, *raw: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.decoder(raw if len(raw) > 1 else raw[0], self.size)


def to_arrays(outputs: Tensor | tuple[Tensor, ...]) -> list[np.ndarray]:
    """The outputs of a cell, one tensor or several, as a list of arrays."""
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [output.asnumpy() for output in outputs]
