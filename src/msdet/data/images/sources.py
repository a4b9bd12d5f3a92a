"""Input of prediction: image files, folders, glob patterns, videos and cameras, one frame at a time."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from msdet.data.images.decode import decode_image
from msdet.data.images.file_kinds import unsupported_image_format, video_container
from msdet.data.images.file_names import IMAGE_SUFFIXES, READABLE_SUFFIXES, UNSUPPORTED_SUFFIXES, is_ignored_name
from msdet.data.images.header import image_format
from msdet.data.images.notes import collected_notes
from msdet.errors import UsageError, UserError
from msdet.text import first_few, readable_path

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2",
    ".ts", ".mts", ".m2ts", ".vob", ".ogv", ".mxf", ".divx", ".mjpeg", ".mjpg",
)  # fmt: skip
# Enough for the signature of any file format.
_START_BYTES = 1024
_DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        source: the file, or the number of the camera.
        image: uint8 (H, W, 3) RGB.
        number: index of the frame in its video, from 0; None for an image file.
    """

    source: str
    image: np.ndarray
    number: int | None = None


@dataclass
class FrameSource:
    """An iterable of the frames of a source.

    Attributes:
        frames: function that yields the frames and fills `unreadable`.
        count: number of frames; None if unknown.
        fps: frames per second of a video or camera; 0 for image files.
        is_camera: True for a camera, which never ends.
        unreadable: one message for each skipped file and for a video that ends early.
        folders: folders of the images or the video; empty for a camera.
    """

    frames: Callable[[FrameSource], Iterator[Frame]]
    count: int | None
    fps: float = 0.0
    is_camera: bool = False
    unreadable: list[str] = field(default_factory=list)
    folders: frozenset[Path] = frozenset()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames(self)


def open_source(source: str, max_pixels: int, max_frames: int = 0) -> FrameSource:
    """Opens a source for prediction.

    Args:
        source: an image, a folder of images, a glob pattern such as `photos/*.jpg`, a video, or the number of a camera.
        max_pixels: larger images are skipped.
        max_frames: maximum number of frames of a video or camera; 0 = all.

    Raises:
        UsageError: the source does not exist, or contains no image.
        UserError: a video or camera cannot be opened.
    """
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if not is_ignored_name(file.name)]
        return _image_files(_select_images(source, found), max_pixels)
    if path.is_file():
        is_video = path.suffix.lower() in VIDEO_SUFFIXES or bool(video_container(_start_of(path)))
        return _video(source, max_pixels, max_frames) if is_video else _image_files([path], max_pixels)
    if source.isdecimal():
        return _video(source, max_pixels, max_frames)
    if not glob.has_magic(source):
        raise UsageError(f"--source {source!r} does not exist; give an image, folder, pattern, video or camera number")
    # Path.glob does not accept absolute patterns.
    found = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207
    files = [file for file in found if not is_ignored_name(file.name)]
    return _image_files(_select_images(source, files), max_pixels)


def _select_images(source: str, found: list[Path]) -> list[Path]:
    """The readable images among files and folders, sorted; warns of other images, videos and folders.

    Raises:
        UsageError: there is no readable image.
    """
    files = sorted(file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and not file.is_dir())
    others = sorted(set(found) - set(files))
    is_pattern = glob.has_magic(source)
    kinds = {f"{file.name}/" if file.is_dir() else file.name: _other_kind(file) for file in others}
    remedies = {
        "image": "convert these images to JPEG or PNG",
        "video": "give each video as a separate --source",
        "misnamed": "these are images with a wrong suffix: rename them",
        "folder": f"subfolders are not searched; use a pattern such as '{source.rstrip('/')}/**/*.jpg'",
    }
    skipped = [
        ([name for name, kind in kinds.items() if kind == which], remedy)
        for which, remedy in remedies.items()
        if which != "folder" or not is_pattern
    ]
    messages = [f"{first_few(names, shown=20)} ({remedy})" for names, remedy in skipped if names]
    if not files:
        what = "matches no image" if is_pattern else "the folder contains no image"
        more = f", only {'; '.join(messages)}" if messages else ""
        raise UsageError(f"--source {source!r}: {what} ({', '.join(READABLE_SUFFIXES)}){more}")
    for text in messages:
        log.warning("skipped in %s: %s", source, text)
    return files


def _other_kind(file: Path) -> str:
    """`folder`, `image` (of an unsupported format), `video`, `misnamed` (an image with a wrong suffix), or empty."""
    if file.is_dir():
        return "folder"
    suffix, start = file.suffix.lower(), _start_of(file)
    if suffix in VIDEO_SUFFIXES or video_container(start):
        return "video"
    if image_format(start):
        return "misnamed"
    return "image" if suffix in UNSUPPORTED_SUFFIXES or unsupported_image_format(start) else ""


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START_BYTES)
    except OSError:
        return b""


def _image_files(files: list[Path], max_pixels: int) -> FrameSource:
    def frames(source: FrameSource) -> Iterator[Frame]:
        for file in files:
            try:
                with collected_notes() as notes:
                    image = decode_image(file, max_pixels=max_pixels)
            except UserError as error:
                # One bad file among thousands does not stop the others; the exit code of the command reports it.
                source.unreadable.append(str(error))
                log.warning("skipped: %s", error)
                continue
            for note in notes:
                log.warning("%s", note.text)
            yield Frame(str(file), image)

    return FrameSource(frames, len(files), folders=frozenset(file.parent.resolve() for file in files))


def _video(source: str, max_pixels: int, max_frames: int) -> FrameSource:
    is_camera = not Path(source).is_file()
    # Without CAP_FFMPEG, OpenCV would try its image decoders on files that FFmpeg cannot open.
    with readable_path(Path(source)) as name:
        capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    problem = _capture_problem(capture, is_camera, max_pixels)
    if problem:
        capture.release()
        raise UserError(f"--source {source}: {problem}")
    announced = 0 if is_camera else max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    limits = [limit for limit in (announced, max_frames) if limit]

    def frames(video: FrameSource) -> Iterator[Frame]:
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
        if not number:
            what = "the camera delivers no image" if is_camera else "the video has no readable frame"
            video.unreadable.append(f"{source}: {what}")
            log.warning("%s", video.unreadable[-1])
        # The frame count in the header of an intact video may be one or two too high.
        elif number < min(limits, default=0) * 0.99 - 2:
            video.unreadable.append(f"{source} ends after {number} of {announced} frames")
            log.warning("%s", video.unreadable[-1])

    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if 0 < fps < 1000 else _DEFAULT_FPS
    folders = frozenset() if is_camera else frozenset((Path(source).parent.resolve(),))
    return FrameSource(frames, min(limits, default=None), fps, is_camera, folders=folders)


def _capture_problem(capture: cv2.VideoCapture, is_camera: bool, max_pixels: int) -> str:
    if not capture.isOpened():
        if is_camera:
            return "there is no camera with this number"
        return f"not a video that OpenCV can read; common suffixes are {', '.join(VIDEO_SUFFIXES)}"
    if is_camera:
        return ""
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > max_pixels:
        return f"its frames have {width}x{height} pixels, more than max_image_pixels={max_pixels} allows"
    return ""
