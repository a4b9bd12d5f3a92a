"""Pictures to predict on: files, folders, globs, videos and cameras, one frame at a time."""

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
# Enough for the signature of any kind of file.
_START_BYTES = 1024
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
class FrameSource:
    """What a source yields.

    Attributes:
        count: pictures, as far as known.
        is_camera: it has no end of its own.
        fps: of a video; 0 for pictures.
        unreadable: what was passed over because it cannot be read, each with its reason.
        folders: where the pictures or the video lie; empty for a camera.
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
    """Finds out what a source is.

    Args:
        source: a picture, a folder of pictures, a pattern such as `photos/*.jpg`, a video, or a camera's number.
        max_pixels: larger pictures are passed over.
        max_frames: most frames of a video or camera; 0 = all.

    Raises:
        UsageError: there is no such thing, or nothing in it that could be read.
    """
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if not is_ignored_name(file.name)]
        return _pictures(_readable(source, found), max_pixels)
    if path.is_file():
        is_video = path.suffix.lower() in VIDEO_SUFFIXES or bool(video_container(_start_of(path)))
        return _video(source, max_pixels, max_frames) if is_video else _pictures([path], max_pixels)
    if source.isdecimal():
        return _video(source, max_pixels, max_frames)
    if not glob.has_magic(source):
        raise UsageError(f"--source {source!r} does not exist; give a picture, folder, pattern, video or camera number")
    # Not Path.glob, which refuses a pattern that is absolute.
    found = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207
    return _pictures(_readable(source, [file for file in found if not is_ignored_name(file.name)]), max_pixels)


def _readable(source: str, found: list[Path]) -> list[Path]:
    """The images among files and folders, sorted; other images, videos and folders are named in warnings.

    Raises:
        UsageError: there is no image.
    """
    files = sorted(file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and not file.is_dir())
    others = sorted(set(found) - set(files))
    is_pattern = glob.has_magic(source)
    kinds = {f"{file.name}/" if file.is_dir() else file.name: _other_kind(file) for file in others}
    remedies = {
        "image": "convert these images to JPEG or PNG",
        "video": "give each video as a source of its own",
        "misnamed": "these are images whose names should say so",
        "folder": f"sub-folders are not looked into; a pattern such as '{source.rstrip('/')}/**/*.jpg' does",
    }
    left_out = [
        ([name for name, kind in kinds.items() if kind == which], what)
        for which, what in remedies.items()
        if which != "folder" or not is_pattern
    ]
    told = [f"{first_few(names, shown=20)} ({what})" for names, what in left_out if names]
    if not files:
        what = "matches no picture" if is_pattern else "the folder holds no picture"
        more = f", only {'; '.join(told)}" if told else ""
        raise UsageError(f"--source {source!r}: {what} ({', '.join(READABLE_SUFFIXES)}){more}")
    for text in told:
        log.warning("left out of %s: %s", source, text)
    return files


def _other_kind(file: Path) -> str:
    """What it is: `folder`, `image` (of a format that is not read), `video`, `misnamed` (an image), or nothing."""
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


def _pictures(files: list[Path], max_pixels: int) -> FrameSource:
    def frames(media: FrameSource) -> Iterator[Frame]:
        for file in files:
            try:
                with collected_notes() as notes:
                    image = decode_image(file, max_pixels=max_pixels)
            except UserError as error:
                # One bad file among thousands must not cost the others; the command's exit code tells of it.
                media.unreadable.append(str(error))
                log.warning("passed over: %s", error)
                continue
            for note in notes:
                log.warning("%s", note.text)
            yield Frame(str(file), image)

    return FrameSource(frames, len(files), folders=frozenset(file.parent.resolve() for file in files))


def _video(source: str, max_pixels: int, max_frames: int) -> FrameSource:
    is_camera = not Path(source).is_file()
    # Without FFmpeg named, OpenCV tries its own readers of images on what FFmpeg does not open.
    with readable_path(Path(source)) as name:
        capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    problem = _capture_problem(capture, is_camera, max_pixels)
    if problem:
        capture.release()
        raise UserError(f"--source {source}: {problem}")
    announced = 0 if is_camera else max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    limits = [limit for limit in (announced, max_frames) if limit]

    def frames(media: FrameSource) -> Iterator[Frame]:
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
            what = "the camera gives no image" if is_camera else "the video has no frame that can be read"
            media.unreadable.append(f"{source}: {what}")
            log.warning("%s", media.unreadable[-1])
        # The headers of sound videos may count a frame or two too many.
        elif number < min(limits, default=0) * 0.99 - 2:
            media.unreadable.append(f"{source} ends after {number} of {announced} frames")
            log.warning("%s", media.unreadable[-1])

    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate < 1000 else _USUAL_RATE
    folders = frozenset() if is_camera else frozenset((Path(source).parent.resolve(),))
    return FrameSource(frames, min(limits, default=None), rate, is_camera, folders=folders)


def _capture_problem(capture: cv2.VideoCapture, is_camera: bool, max_pixels: int) -> str:
    if not capture.isOpened():
        if is_camera:
            return "no camera answers under this number"
        return f"is no video that OpenCV can read; usual ones end in {', '.join(VIDEO_SUFFIXES)}"
    if is_camera:
        return ""
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > max_pixels:
        return f"its frames have {width}x{height} pixels, more than max_image_pixels={max_pixels} allows"
    return ""
