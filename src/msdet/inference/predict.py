"""What predict.py does: runs a network on pictures, draws what it finds and writes it down."""

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
from msdet.runtime.start import start, start_logging
from msdet.text import json_text, writable_path

if TYPE_CHECKING:
    from msdet.config import Config

log = logging.getLogger(__name__)

_TOP = 5
_SECONDS_BETWEEN_LINES = 10


def predict(cfg: Config) -> int:
    """Predicts on `source` with the weights `pretrained`; writes predictions.json and, unless told not to, pictures.

    Ctrl-C ends it as the end of the source does: a camera has no other. What was done until then is kept.

    Returns:
        0, or 1 if a picture could not be read (it is named in the log, the others are done), or 130 after Ctrl-C where
        the source had an end.

    Raises:
        UserError: weights or source are missing or wrong.
        UsageError: the results would overwrite the source.
    """
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the weights with --pretrained FILE (.ckpt, .mindir, .onnx or .om)")
    if not cfg.source:
        raise UsageError("source is empty: name pictures with --source (file, folder, pattern, video or camera number)")
    start_logging(None)
    start(host_config(cfg, Path(cfg.pretrained)))
    media = open_source(cfg.source, cfg.max_image_pixels, cfg.max_frames)
    folder = Path(cfg.output) if cfg.output else timestamped_folder(Path(cfg.log_path), "predict")
    if cfg.save_pictures and folder.resolve() in media.folders:
        raise UsageError(
            f"--output {folder} is a folder that {cfg.source} lies in: drawn pictures would take the place of the "
            "pictures themselves. Name another folder, or set --save_pictures=False"
        )
    is_stopped = False
    with open_runner(Path(cfg.pretrained), cfg, cfg.runner) as runner:
        predictor = Predictor(runner)
        log.info("%s on %s", cfg.pretrained, cfg.source)
        begin = time.monotonic()
        with Output(folder, media, cfg.save_pictures, cfg.draw_threshold, predictor.names) as output:
            try:
                for frame, found in _progress(predictor.run(media), media, cfg):
                    output.write(frame, found)
            except KeyboardInterrupt:
                is_stopped = True
    seconds = time.monotonic() - begin
    ending = ", stopped by the user" if is_stopped else ""
    log.info("%d pictures in %.1f s%s; results: %s", output.pictures, seconds, ending, folder)
    if media.unreadable:
        log.error("%d could not be read: %s", len(media.unreadable), "; ".join(media.unreadable[:3]))
    if is_stopped and not media.is_camera:
        return 130
    return 1 if media.unreadable or not output.pictures else 0


class Predictor:
    """A runner, with what lies before and after it.

    Args:
        runner: of a detector or a classifier.

    Attributes:
        names: of the labels.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.recipe = get_recipe(runner.cfg)
        self.names = label_names(runner.card, runner.cfg)
        self.pipeline = self.recipe.eval_pipeline()
        if self.recipe.task == "detect":
            self.options = self.recipe.postprocess_options()
            warm_up()

    def run(self, media: FrameSource) -> Iterator[tuple[Frame, Detections | np.ndarray]]:
        """Yields each frame with its detections in pixels of the frame, or with the probabilities (C,)."""
        size = self.runner.batch_size or 1
        waiting: list[Frame] = []
        for frame in media:
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
            found = postprocess(boxes[i], scores[i], self.options)
            found.boxes = geometry.inverse(found.boxes, clip=True)
            yield frame, found


def label_names(card: Mapping[str, Any], cfg: Config) -> list[str]:
    """A name for every label that the network can give."""
    names = list(card.get("class_names") or cfg.class_names)
    count = int(card.get("num_classes") or cfg.num_classes or len(names))
    if len(names) == count:
        return names
    if cfg.label_map == "coco_id_minus_1" and tuple(names) in ((), COCO_NAMES):
        return [COCO_CATEGORIES.get(label + 1, f"category {label + 1}") for label in range(count)]
    return [f"class {label}" for label in range(count)]


class Output:
    """Writes predictions.json, one record a line, and the drawn pictures or video; memory for one picture.

    Args:
        folder: where they go.
        media: tells whether a video is to be written.
        save_pictures: draw at all.
        draw_threshold: detections of a lower score are written but not drawn.
        names: of the labels.

    Attributes:
        pictures: how many were written.
    """

    def __init__(
        self, folder: Path, media: FrameSource, save_pictures: bool, draw_threshold: float, names: Sequence[str]
    ) -> None:
        self.folder = folder
        self.media = media
        self.save_pictures = save_pictures
        self.draw_threshold = draw_threshold
        self.names = names
        self.pictures = 0
        self._stack = ExitStack()
        self._file: IO[str] | None = None
        self._video: cv2.VideoWriter | None = None
        self._taken: set[str] = set()

    def __enter__(self) -> Output:
        with ExitStack() as stack:
            beside = stack.enter_context(atomic_path(self.folder / "predictions.json"))
            self._file = stack.enter_context(beside.open("w", encoding="utf-8"))
            self._file.write("[")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._file is not None:
            self._file.write("\n]\n")
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Frame, found: Detections | np.ndarray) -> None:
        """Adds one picture."""
        assert self._file is not None
        height, width = frame.image.shape[:2]
        record: dict[str, Any] = {"file": frame.source, "width": width, "height": height}
        if frame.number is not None:
            record["frame"] = frame.number
        record |= self._record(found)
        self._file.write(("," if self.pictures else "") + "\n" + json_text(record))
        self.pictures += 1
        if "classes" in record and frame.number is None:
            best = ", ".join(f"{item['class']} {item['probability']:.3f}" for item in record["classes"])
            log.info("%s: %s", frame.source, best)
        if self.save_pictures:
            self._draw(frame, found)

    def _record(self, found: Detections | np.ndarray) -> dict[str, Any]:
        if isinstance(found, np.ndarray):
            best = np.argsort(-found, kind="stable")[:_TOP].tolist()
            return {
                "classes": [
                    {"label": label, "class": self.names[label], "probability": round(float(found[label]), 6)}
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
                for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
            ]
        }

    def _draw(self, frame: Frame, found: Detections | np.ndarray) -> None:
        if isinstance(found, np.ndarray):
            best = self._record(found)["classes"]
            picture = add_captions(frame.image, [f"{item['probability']:.3f} {item['class']}" for item in best])
        else:
            shown = found.scores >= self.draw_threshold
            picture = draw_boxes(frame.image, found.boxes[shown], found.labels[shown], self.names, found.scores[shown])
        if frame.number is None:
            save_image(self.folder / self._name(Path(frame.source)), picture)
        else:
            self._add_to_video(picture, Path(frame.source).stem)

    def _name(self, source: Path) -> str:
        """A name of its own for each picture, also where two folders hold files of one name."""
        name, number = f"{source.stem}.jpg", 1
        while name in self._taken:
            number += 1
            name = f"{source.stem}_{number}.jpg"
        self._taken.add(name)
        return name

    def _add_to_video(self, picture: np.ndarray, stem: str) -> None:
        height, width = picture.shape[:2]
        if self._video is None:
            beside = self._stack.enter_context(atomic_path(self.folder / f"{stem}.mp4"))
            code = cv2.VideoWriter.fourcc(*"mp4v")
            name = self._stack.enter_context(writable_path(beside))
            self._video = cv2.VideoWriter(name, code, self.media.fps, (width, height))
            if not self._video.isOpened():
                raise UserError(f"{self.folder / stem}.mp4: OpenCV cannot write this video; set --save_pictures=False")
            self._stack.callback(self._video.release)
        self._video.write(picture[:, :, ::-1])


def _progress(
    results: Iterator[tuple[Frame, Any]], media: FrameSource, cfg: Config
) -> Iterator[tuple[Frame, Detections | np.ndarray]]:
    bar = cfg.progress == "bar" or (cfg.progress == "auto" and sys.stderr.isatty())
    said = time.monotonic()
    for done, result in enumerate(
        tqdm(results, total=media.count, unit="picture", disable=not bar, desc="predict"), start=1
    ):
        yield result
        if not bar and cfg.progress != "off" and time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            log.info("%d of %s pictures", done, media.count or "?")
            said = time.monotonic()
