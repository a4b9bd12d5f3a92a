"""Pictures to predict on: files, folders, globs, videos and cameras, one frame at a time."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from src.common.names import readable_path
from src.data.decode import decode_image
from src.data.image_files import IMAGE_SUFFIXES, READABLE_SUFFIXES
from src.data.image_header import exif_orientation
from src.errors import UsageError, UserError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"))
_USUAL_RATE = 25.0


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        source: the file, or the camera's number.
        image: uint8 (H, W, 3) RGB.
        number: of the frame in its video, from 0; None for a picture of its own.
    """

    source: str
    image: np.ndarray
    number: int | None = None


@dataclass
class Media:
    """What a source yields.

    Attributes:
        count: pictures, as far as known.
        is_camera: it has no end of its own.
        frames_a_second: of a video; 0 for pictures.
        broken: what was passed over because it cannot be read, each with its reason.
        folders: where the pictures or the video lie; empty for a camera.
    """

    frames: Callable[[Media], Iterator[Frame]]
    count: int | None
    frames_a_second: float = 0.0
    is_camera: bool = False
    broken: list[str] = field(default_factory=list)
    folders: frozenset[Path] = frozenset()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames(self)


def open_media(source: str, max_pixels: int, max_frames: int = 0) -> Media:
    """Finds out what a source is.

    Args:
        source: a picture, a folder of pictures, a pattern such as `photos/*.jpg`, a video, or a camera's number.
        max_pixels: larger pictures are passed over.
        max_frames: most frames of a video or camera; 0 = all.

    Raises:
        UsageError: there is no such thing, or nothing in it that could be read.
    """
    if source.isdecimal():
        return _video(source, max_frames)
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise UsageError(f"--source {source}: the folder holds no picture ({', '.join(READABLE_SUFFIXES)})")
        return _pictures(files, max_pixels)
    if path.is_file():
        return _video(source, max_frames) if path.suffix.lower() in VIDEO_SUFFIXES else _pictures([path], max_pixels)
    # Not Path.glob, which refuses a pattern that is absolute.
    found = sorted(map(Path, glob.glob(source, recursive=True))) if glob.has_magic(source) else []  # noqa: PTH207
    files = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        what = "matches no picture" if glob.has_magic(source) else "does not exist"
        raise UsageError(f"--source {source!r} {what}; give a picture, folder, pattern, video or camera number")
    return _pictures(files, max_pixels)


def _pictures(files: list[Path], max_pixels: int) -> Media:
    def frames(media: Media) -> Iterator[Frame]:
        for file in files:
            try:
                image = upright(decode_image(file, max_pixels=max_pixels), exif_orientation(file.read_bytes()))
            except UserError as error:
                # One bad file among thousands must not cost the others; the command's exit code tells of it.
                media.broken.append(str(error))
                log.warning("passed over: %s", error)
                continue
            yield Frame(str(file), image)

    return Media(frames, len(files), folders=frozenset(file.parent.resolve() for file in files))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels (H, W, 3) as EXIF's orientation, 1 to 8, wants them shown.

    Annotations count in stored pixels, so training and evaluation leave them as they are; here somebody looks at them.
    """
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _video(source: str, max_frames: int) -> Media:
    is_camera = source.isdecimal()
    with readable_path(Path(source)) as name:
        capture = cv2.VideoCapture(int(source) if is_camera else name)
    if not capture.isOpened():
        capture.release()
        what = "no camera answers under this number" if is_camera else "is no video that OpenCV can read"
        raise UserError(f"--source {source}: {what}")
    announced = 0 if is_camera else max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    limits = [limit for limit in (announced, max_frames) if limit]

    def frames(media: Media) -> Iterator[Frame]:
        number = 0
        try:
            while not max_frames or number < max_frames:
                is_read, image = capture.read()
                if not is_read:
                    break
                yield Frame(source, np.ascontiguousarray(image[:, :, ::-1]), number)
                number += 1
        finally:
            capture.release()
        # The headers of sound videos may count a frame or two too many.
        if number < min(limits, default=0) * 0.99 - 2:
            media.broken.append(f"{source} ends after {number} of {announced} frames")
            log.warning("%s", media.broken[-1])

    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate < 1000 else _USUAL_RATE
    folders = frozenset() if is_camera else frozenset((Path(source).parent.resolve(),))
    return Media(frames, min(limits, default=None), rate, is_camera, folders=folders)
