"""Sources of prediction: images, folders, patterns, videos and cameras."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from msdet.data.images.sources import open_source
from msdet.errors import UsageError, UserError
from tests.data.images.samples import gradient, save

LIMIT = 10**6


@pytest.fixture
def folder(tmp_path):
    """A folder with two images, a hidden file and a text file."""
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("b.png", "a.bmp"):
        save(root / name, gradient())
    for name in ("._b.png", "notes.txt"):
        (root / name).write_text("text")
    return root


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Seven grey frames of 96 x 64 px at 10 frames per second; frame i has the value 30 i."""
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for value in range(0, 210, 30):
        writer.write(np.full((64, 96, 3), value, np.uint8))
    writer.release()
    return path


def names(source):
    return [Path(frame.source).name for frame in source]


def test_a_folder_and_a_pattern_in_sorted_order(folder, caplog):
    source = open_source(str(folder), LIMIT)
    assert (source.count, source.fps, source.is_camera, source.folders) == (2, 0, False, {folder.resolve()})
    frames = list(source)
    assert names(frames) == ["a.bmp", "b.png"]
    np.testing.assert_array_equal(frames[1].image, gradient())
    assert frames[1].number is None
    assert names(open_source(f"{folder.parent}/**/*.png", LIMIT)) == ["b.png"]
    assert names(open_source(str(folder / "b.png"), LIMIT)) == ["b.png"]
    assert not caplog.records


def test_existing_files_take_precedence_over_camera_numbers(folder, tmp_path, monkeypatch):
    folder.rename(tmp_path / "7")
    monkeypatch.chdir(tmp_path)
    assert names(open_source("7", LIMIT)) == ["a.bmp", "b.png"]
    (tmp_path / "7" / "b.png").rename(tmp_path / "12")
    assert names(open_source("12", LIMIT)) == ["12"]


def test_other_files_are_named_in_warnings(folder, caplog):
    (folder / "x.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (folder / "clip.dat").write_bytes(b"\x1a\x45\xdf\xa3")
    (folder / "deep").mkdir()
    (folder / "a.bmp").rename(folder / "image")
    assert names(open_source(str(folder), LIMIT)) == ["b.png"]
    warnings = [record.getMessage() for record in caplog.records]
    for text in (
        "x.HEIC (convert these images to JPEG or PNG)",
        "clip.dat (give each video as a separate --source)",
        "image (these are images with a wrong suffix: rename them)",
        f"use a pattern such as '{folder}/**/*.jpg'",
    ):
        assert sum(text in warning for warning in warnings) == 1
    assert not any("notes.txt" in warning for warning in warnings)


def test_unreadable_images_are_skipped(folder, caplog):
    (folder / "a.bmp").write_bytes(b"")
    save(folder / "large.png", gradient(200, 100))
    source = open_source(str(folder), 60 * 40)
    assert names(source) == ["b.png"]
    assert ["a.bmp is empty" in source.unreadable[0], "200x100 pixels" in source.unreadable[1]] == [True, True]
    assert f"skipped: image {folder}/a.bmp is empty" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.jpg", "does not exist; give an image, folder, pattern, video or camera number"),
        ("*.gif", "matches no image"),
        ("empty", "the folder contains no image .*, only a.heic .convert"),
    ],
)
def test_sources_without_images(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.heic").touch()
    with pytest.raises(UsageError, match=message):
        open_source(str(tmp_path / name), LIMIT)


@pytest.mark.parametrize(("limit", "count"), [(0, 7), (3, 3), (99, 7)])
def test_frames_of_a_video(video, limit, count):
    source = open_source(str(video), LIMIT, limit)
    assert (source.count, source.fps, source.folders) == (count, pytest.approx(10), {video.parent.resolve()})
    frames = list(source)
    assert [frame.number for frame in frames] == list(range(count))
    np.testing.assert_allclose([frame.image.mean() for frame in frames], [30 * i for i in range(count)], atol=4)
    assert not source.unreadable


def test_videos_are_detected_by_content(video, tmp_path):
    (tmp_path / "v.bin").write_bytes(video.read_bytes())
    assert len(list(open_source(str(tmp_path / "v.bin"), LIMIT))) == 7


def test_unusable_videos(video, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"x\.mp4: not a video that OpenCV can read"):
        open_source(str(tmp_path / "x.mp4"), LIMIT)
    with pytest.raises(UserError, match=r"frames have 96x64 pixels, more than max_image_pixels=1000"):
        open_source(str(video), 1000)


class Camera:
    """Stands for cv2.VideoCapture: `frames` frames with the announced number `count`."""

    def __init__(self, frames, count=0):
        self.left, self.count, self.released = frames, count, False

    def isOpened(self):
        return self.left is not None

    def get(self, key):
        return {cv2.CAP_PROP_FRAME_COUNT: self.count}.get(key, 0)

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((4, 6, 3), np.uint8)

    def release(self):
        self.released = True


def test_a_camera_runs_until_it_stops(monkeypatch):
    camera = Camera(5)
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: camera)
    source = open_source("0", LIMIT)
    assert (source.is_camera, source.count, source.fps, source.folders) == (True, None, 25, frozenset())
    assert len(list(source)) == 5 and camera.released
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera(None))
    with pytest.raises(UserError, match="--source 1: there is no camera with this number"):
        open_source("1", LIMIT)


@pytest.mark.parametrize(("frames", "message"), [(0, "the video has no readable frame"), (50, "ends after 50 of 100")])
def test_a_video_that_ends_early(monkeypatch, tmp_path, frames, message):
    (tmp_path / "v.mp4").touch()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Camera(frames, 100))
    source = open_source(str(tmp_path / "v.mp4"), LIMIT)
    assert len(list(source)) == frames
    assert message in source.unreadable[0]
