"""A checkpoint's network with what export needs: the specification of the file, sample inputs, names of the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from msdet.export.sample_images import sample_images
from msdet.export.spec import DecoderCell, ExportSpec, to_arrays
from msdet.session.loaded_network import LoadedNetwork

# Images to verify a file of dynamic batch size with: more than one, and an odd number.
_ANY_BATCH = 3


@dataclass(frozen=True)
class ExportNetwork(LoadedNetwork):
    """A network to export, as its configuration says; see `LoadedNetwork`."""

    def spec(self) -> ExportSpec:
        """What the exported file contains."""
        cfg = self.cfg
        valid = cfg.keep_preprocess and self.recipe.build_preprocess().uses_valid_sizes
        return ExportSpec(cfg.testing_size, cfg.export_batch_size, cfg.keep_preprocess, cfg.keep_detect, valid)

    def inputs(self, spec: ExportSpec) -> list[np.ndarray]:
        """Sample images as inputs of the file."""
        images, valid = sample_images(spec.batch_size or _ANY_BATCH, spec.size)
        normalised = self.recipe.build_preprocess()(Tensor(images), Tensor(valid)).asnumpy()
        return spec.inputs(images, valid, normalised)

    def decode_function(self, spec: ExportSpec) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
        """A function from the outputs of the file to boxes and scores (or probabilities); identity if it has the
        decoder."""
        if spec.detect:
            return lambda outputs: outputs
        decoder = DecoderCell(self.recipe, spec.size)
        return lambda outputs: to_arrays(decoder(*map(Tensor, outputs)))

    def output_names(self, spec: ExportSpec, count: int) -> list[str]:
        """Names of the `count` outputs of the file."""
        if self.recipe.task != "detect":
            return ["probabilities" if spec.detect else "logits"]
        return ["boxes", "scores"] if spec.detect else [f"raw_{i}" for i in range(count)]
