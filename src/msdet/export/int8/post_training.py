"""Post-training quantization: grids for a float ONNX file from representative images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor

from msdet.data.images.sources import FrameSource, open_source
from msdet.errors import UsageError, UserError
from msdet.export.int8.graph import Grid

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.export.spec import ExportSpec
    from msdet.models.recipe import Recipe

log = logging.getLogger(__name__)


def calibration_arrays(cfg: Config, recipe: Recipe, spec: ExportSpec) -> Iterator[list[np.ndarray]]:
    """Yields batches of inputs of an exported file, from the images in `calibration`, transformed as in evaluation.

    Raises:
        UsageError: the folder is missing or has no images.
        UserError: no image can be read.
    """
    place, preprocess = recipe.eval_pipeline(), recipe.build_preprocess()
    media = open_calibration_images(cfg)
    waiting: list[tuple[np.ndarray, Any]] = []
    count = 0
    for frame in media:
        canvas, geometry = place.transform_image(frame.image, spec.size)
        waiting.append((canvas, geometry.valid_size))
        count += 1
        if len(waiting) == spec.batch_size:
            yield _arrays(waiting, preprocess, spec)
            waiting = []
        if count == cfg.calibration_images:
            break
    if count and waiting:
        # The last batch of a file with a fixed batch size is padded with copies of one image.
        yield _arrays(waiting + waiting[:1] * (spec.batch_size - len(waiting)), preprocess, spec)
    if not count:
        raise UserError(f"{cfg.calibration}: no image can be read: {'; '.join(media.unreadable[:3])}")
    log.info("calibrated on %d images of %s", count, cfg.calibration)


def open_calibration_images(cfg: Config) -> FrameSource:
    """The images in the folder `calibration`.

    Raises:
        UsageError: the folder is missing or has no images.
    """
    if not cfg.calibration:
        raise UsageError("quantize ptq needs representative images: give their folder with --calibration")
    if not Path(cfg.calibration).is_dir():
        raise UsageError(f"{cfg.where('calibration')} {cfg.calibration} is not a folder")
    return open_source(cfg.calibration, cfg.max_image_pixels)


def _arrays(
    placed: Sequence[tuple[np.ndarray, tuple[int, int]]], preprocess: Any, spec: ExportSpec
) -> list[np.ndarray]:
    images = np.stack([canvas for canvas, _ in placed])
    valid_sizes = np.array([valid for _, valid in placed], np.int32)
    normalised = preprocess(Tensor(images), Tensor(valid_sizes)).asnumpy()
    return spec.inputs(images, valid_sizes, normalised)


def calibrate_grids(path: Path, tensors: Sequence[str], batches: Iterator[list[np.ndarray]]) -> dict[str, Grid]:
    """Runs a file on batches; returns tensor name -> grid.

    A grid covers the range from the mean of the minima to the mean of the maxima of the batches. The mean, because a
    single outlier would widen the grid for all images; the observers of quantization-aware training use a moving
    average for the same reason.

    Args:
        path: float ONNX file.
        tensors: names of the tensors to calibrate.
        batches: inputs of the file.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    names = [value.name for value in onnx.load(str(path), load_external_data=False).graph.input]

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            arrays = next(batches, None)
            return None if arrays is None else dict(zip(names, arrays, strict=True))

    class Chosen(MinMaxCalibrater):
        """Calibrates the given tensors instead of all tensors of some operators."""

        def select_tensors_to_calibrate(self, model: onnx.ModelProto) -> tuple[list[str], dict[str, Any]]:
            _, infos = super().select_tensors_to_calibrate(model)
            return list(tensors), infos

    # With moving_average it computes the mean over all batches.
    calibrator = Chosen(path, None, str(path.with_name(path.name + ".augmented")), moving_average=True)
    try:
        calibrator.augment_graph()
        calibrator.create_inference_session()
        calibrator.collect_data(Reader())
        ranges = calibrator.compute_data()
    finally:
        path.with_name(path.name + ".augmented").unlink(missing_ok=True)
    lacking = [name for name in tensors if name not in ranges.data]
    if lacking:
        raise UserError(f"calibration gave no range for {len(lacking)} tensors, among them {lacking[0]}")
    return {name: _grid(*ranges[name].range_value) for name in tensors}


def _grid(low: np.ndarray, high: np.ndarray) -> Grid:
    return Grid.covering(float(np.min(low)), float(np.max(high)))
