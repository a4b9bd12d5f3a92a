"""The command predict: runs a network on images or videos, writes and draws the results."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from msdet.data.class_lists import COCO_CATEGORIES, COCO_NAMES
from msdet.data.images.sources import Frame, FrameSource, open_source
from msdet.errors import UsageError, UserError
from msdet.files import atomic_path, timestamped_folder
from msdet.inference.open_runner import host_config, open_runner
from msdet.inference.runners import Runner
from msdet.models.recipe import get_recipe
from msdet.ops.draw import add_captions, draw_boxes, save_image
from msdet.ops.postprocess import Detections, postprocess, warm_up
from msdet.session.session import Session
from msdet.text import json_text, writable_path

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

_TOP = 5
_SECONDS_BETWEEN_LINES = 10


def predict(cfg: Config) -> int:
    """Predicts on `source` with the weights `pretrained`; writes predictions.json and, with `save_pictures`, images.

    Ctrl-C ends it like the end of the source, keeping the results so far; it is the way to stop a camera.

    Returns:
        0; 1 if an image could not be read (it is named in the log, the others are processed); 130 after Ctrl-C, unless
        the source is a camera.

    Raises:
        UserError: weights or source are missing or invalid.
        UsageError: the results would overwrite the source.
    """
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the weights with --pretrained FILE (.ckpt, .mindir, .onnx or .om)")
    if not cfg.source:
        raise UsageError("source is empty: give --source (image, folder, glob pattern, video or camera number)")
    session = Session(cfg, host=host_config(cfg, Path(cfg.pretrained)))
    session.log_to(None)
    frames = open_source(cfg.source, cfg.max_image_pixels, cfg.max_frames)
    folder = Path(cfg.output) if cfg.output else timestamped_folder(Path(cfg.log_path), "predict")
    if cfg.save_pictures and folder.resolve() in frames.folders:
        raise UsageError(
            f"--output {folder} contains images of {cfg.source}: drawn images would overwrite them. Choose another "
            "folder, or set --save_pictures=False"
        )
    is_stopped = False
    with open_runner(session.source, cfg, cfg.runner) as runner:
        predictor = FramePredictor(runner)
        log.info("%s on %s", cfg.pretrained, cfg.source)
        begin = time.monotonic()
        with PredictionWriter(folder, frames, cfg.save_pictures, cfg.draw_threshold, predictor.names) as writer:
            try:
                for frame, result in _progress(predictor.run(frames), frames, cfg):
                    writer.write(frame, result)
            except KeyboardInterrupt:
                is_stopped = True
    seconds = time.monotonic() - begin
    ending = ", stopped by the user" if is_stopped else ""
    log.info("%d images in %.1f s%s; results: %s", writer.count, seconds, ending, folder)
    if frames.unreadable:
        log.error("%d could not be read: %s", len(frames.unreadable), "; ".join(frames.unreadable[:3]))
    if is_stopped and not frames.is_camera:
        return 130
    return 1 if frames.unreadable or not writer.count else 0


class FramePredictor:
    """A runner with resizing before and post-processing after it.

    Args:
        runner: of a detector or a classifier.

    Attributes:
        names: class name of each label.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.recipe = get_recipe(runner.cfg)
        self.names = label_names(runner.card, runner.cfg)
        self.pipeline = self.recipe.eval_pipeline()
        if self.recipe.task == "detect":
            self.options = self.recipe.postprocess_options()
            warm_up()

    def run(self, frames: FrameSource) -> Iterator[tuple[Frame, Detections | np.ndarray]]:
        """Yields each frame with its detections in pixels of the frame, or with the class probabilities (C,)."""
        size = self.runner.batch_size or 1
        waiting: list[Frame] = []
        for frame in frames:
            waiting.append(frame)
            if len(waiting) == size:
                yield from self._batch(waiting)
                waiting = []
        if waiting:
            yield from self._batch(waiting)

    def _batch(self, frames: Sequence[Frame]) -> Iterator[tuple[Frame, Detections | np.ndarray]]:
        placed = [self.pipeline.transform_image(frame.image, self.runner.size) for frame in frames]
        images = np.stack([canvas for canvas, _ in placed])
        if self.recipe.task != "detect":
            (probabilities,) = self.runner.predict(images)
            yield from zip(frames, probabilities, strict=True)
            return
        valid_sizes = np.array([geometry.valid_size for _, geometry in placed], np.int32)
        boxes, scores = self.runner.predict(images, valid_sizes)
        for i, (frame, (_, geometry)) in enumerate(zip(frames, placed, strict=True)):
            detections = postprocess(boxes[i], scores[i], self.options)
            detections.boxes = geometry.inverse(detections.boxes, clip=True)
            yield frame, detections


def label_names(card: Mapping[str, Any], cfg: Config) -> list[str]:
    """The class name of each output of the network."""
    names = list(card.get("class_names") or cfg.class_names)
    count = int(card.get("num_classes") or cfg.num_classes or len(names))
    if len(names) == count:
        return names
    if cfg.label_map == "coco_id_minus_1" and tuple(names) in ((), COCO_NAMES):
        return [COCO_CATEGORIES.get(label + 1, f"category {label + 1}") for label in range(count)]
    return [f"class {label}" for label in range(count)]


class PredictionWriter:
    """Writes predictions.json, one record per line, and images or a video with the results drawn.

    Images are written one at a time, so that memory use does not grow with their number.

    Args:
        folder: output folder.
        frames: source of the images, for the frame rate of a video.
        save_pictures: whether to draw.
        draw_threshold: score threshold for drawing.
        names: class name of each label.

    Attributes:
        count: number of images written.
    """

    def __init__(
        self, folder: Path, frames: FrameSource, save_pictures: bool, draw_threshold: float, names: Sequence[str]
    ) -> None:
        self.folder = folder
        self.frames = frames
        self.save_pictures = save_pictures
        self.draw_threshold = draw_threshold
        self.names = names
        self.count = 0
        self._stack = ExitStack()
        self._file: IO[str] | None = None
        self._video: cv2.VideoWriter | None = None
        self._taken: set[str] = set()

    def __enter__(self) -> PredictionWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.folder / "predictions.json"))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._file.write("[")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._file is not None:
            self._file.write("\n]\n")
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Frame, result: Detections | np.ndarray) -> None:
        """Writes the record of an image, and draws it.

        Args:
            frame: the image.
            result: its detections, or its class probabilities (C,).
        """
        assert self._file is not None
        height, width = frame.image.shape[:2]
        record: dict[str, Any] = {"file": frame.source, "width": width, "height": height}
        if frame.number is not None:
            record["frame"] = frame.number
        record |= self._record(result)
        self._file.write(("," if self.count else "") + "\n" + json_text(record))
        self.count += 1
        if "classes" in record and frame.number is None:
            best = ", ".join(f"{item['class']} {item['probability']:.3f}" for item in record["classes"])
            log.info("%s: %s", frame.source, best)
        if self.save_pictures:
            self._draw(frame, result)

    def _record(self, result: Detections | np.ndarray) -> dict[str, Any]:
        if isinstance(result, np.ndarray):
            best = np.argsort(-result, kind="stable")[:_TOP].tolist()
            return {
                "classes": [
                    {"label": label, "class": self.names[label], "probability": round(float(result[label]), 6)}
                    for label in best
                ]
            }
        return {
            "detections": [
                {
                    "box": [round(float(value), 2) for value in box],
                    "score": round(float(score), 6),
                    "label": int(label),
                    "class": self.names[int(label)],
                }
                for box, score, label in zip(result.boxes, result.scores, result.labels, strict=True)
            ]
        }

    def _draw(self, frame: Frame, result: Detections | np.ndarray) -> None:
        if isinstance(result, np.ndarray):
            best = self._record(result)["classes"]
            image = add_captions(frame.image, [f"{item['probability']:.3f} {item['class']}" for item in best])
        else:
            shown = result.scores >= self.draw_threshold
            image = draw_boxes(frame.image, result.boxes[shown], result.labels[shown], self.names, result.scores[shown])
        if frame.number is None:
            save_image(self.folder / self._name(Path(frame.source)), image)
        else:
            self._add_to_video(image, Path(frame.source).stem)

    def _name(self, source: Path) -> str:
        """A unique file name for an image, also if images in two folders have the same name."""
        name, number = f"{source.stem}.jpg", 1
        while name in self._taken:
            number += 1
            name = f"{source.stem}_{number}.jpg"
        self._taken.add(name)
        return name

    def _add_to_video(self, image: np.ndarray, stem: str) -> None:
        height, width = image.shape[:2]
        if self._video is None:
            temporary = self._stack.enter_context(atomic_path(self.folder / f"{stem}.mp4"))
            code = cv2.VideoWriter.fourcc(*"mp4v")
            name = self._stack.enter_context(writable_path(temporary))
            self._video = cv2.VideoWriter(name, code, self.frames.fps, (width, height))
            if not self._video.isOpened():
                raise UserError(f"{self.folder / stem}.mp4: OpenCV cannot write this video; set --save_pictures=False")
            self._stack.callback(self._video.release)
        self._video.write(image[:, :, ::-1])


def _progress(
    results: Iterator[tuple[Frame, Any]], frames: FrameSource, cfg: Config
) -> Iterator[tuple[Frame, Detections | np.ndarray]]:
    bar = cfg.progress == "bar" or (cfg.progress == "auto" and sys.stderr.isatty())
    last_log = time.monotonic()
    for done, result in enumerate(
        tqdm(results, total=frames.count, unit="image", disable=not bar, desc="predict"), start=1
    ):
        yield result
        if not bar and cfg.progress != "off" and time.monotonic() - last_log > _SECONDS_BETWEEN_LINES:
            log.info("%d of %s images", done, frames.count or "?")
            last_log = time.monotonic()
