"""The command that predicts: sources, results and pictures, from every kind of file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

import msdet.inference.predict as prediction
import predict as command
from msdet.config import load_config
from msdet.data.images.sources import open_source
from msdet.data.synthetic.render import render_image
from msdet.data.transforms.pipeline import plain_pipeline
from msdet.errors import UsageError, UserError, run_command
from msdet.inference.predict import label_names

CONFIG = "configs/yolov3.yaml"
ROOT = Path(__file__).resolve().parents[2]
BOX = (20, 8, 60, 32)


def write(path, image):
    assert cv2.imwrite(str(path), image[:, :, ::-1])
    return path


def bright_box(box=BOX, size=(60, 80)):
    """A dark picture of (height, width) with a bright rectangle."""
    image = np.full((*size, 3), 20, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 250
    return image


class FindsBrightness:
    """A runner without a network: its only box lies around the bright pixels, half of its surety is for a dog."""

    size = (64, 96)
    card = {"class_names": ["cat", "dog"], "num_classes": 2}

    def __init__(self, batch_size=0, probabilities=None):
        self.cfg = load_config(CONFIG, ["--num_classes=2", "--class_names=cat,dog"])
        self.batch_size = batch_size
        self.probabilities = probabilities
        self.calls = []

    def predict(self, images, valid_sizes=None):
        assert images.shape[1:] == (*self.size, 3)
        assert images.dtype == np.uint8
        self.calls.append(len(images))
        if self.probabilities is not None:
            return (np.tile(np.float32(self.probabilities), (len(images), 1)),)
        boxes = []
        for image in images:
            rows, columns = np.nonzero(image[:, :, 0] > 128)
            whole = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 1, 1)
            boxes.append([whole, (0, 0, 9, 9)])
        return np.float32(boxes), np.tile(np.float32([[0.1, 0.5], [0.002, 0]]), (len(images), 1, 1))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def runner(monkeypatch):
    stand_in = FindsBrightness()
    monkeypatch.setattr(prediction, "open_runner", lambda *_: stand_in)
    return stand_in


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b.jpg", "a.png", "c.bmp"):
        write(folder / name, bright_box())
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(weights, source, output, *flags):
    arguments = ["--config", CONFIG, "--num_classes", "0", "--pretrained", weights, "--testing_shape", "64"]
    code = run_command(command.main, [*map(str, (*arguments, "--source", source, "--output", output)), *flags])
    file = output / "predictions.json"
    return code, json.loads(file.read_text()) if file.exists() else None


def test_the_three_kinds_of_files_agree(checkpoint, exports, tmp_path):
    source = write(tmp_path / "p.png", render_image(np.random.default_rng(0), 80).image[:60])
    results = [run(w, source, tmp_path / w.suffix, "--eval_ignore_threshold", "0.3") for w in (checkpoint, *exports)]
    assert [code for code, _ in results] == [0, 0, 0]
    (mine,) = results[0][1]
    assert len(mine["detections"]) > 5
    for _, (other,) in results[1:]:
        assert len(mine["detections"]) == len(other["detections"])
        for x, y in zip(mine["detections"], other["detections"], strict=True):
            np.testing.assert_allclose(x["box"], y["box"], atol=0.05)
            assert x["class"] == y["class"]
            assert x["score"] == pytest.approx(y["score"], abs=1e-3)


def test_a_picture_that_no_decoder_reads_is_named(runner, pictures, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(pictures / "d.gif")
    code, records = run("w.ckpt", pictures, tmp_path / "out")
    assert code == 1 and len(records) == 3
    assert "d.gif is a GIF, which OpenCV's packages cannot decode" in capsys.readouterr().out


def test_records_and_pictures(runner, pictures, tmp_path):
    code, records = run("w.ckpt", pictures, tmp_path / "out")
    assert code == 0
    assert [Path(record["file"]).name for record in records] == ["a.png", "b.jpg", "c.bmp"]
    best, other = records[0]["detections"]
    np.testing.assert_allclose(best["box"], BOX, atol=1)
    assert (best["score"], best["label"], best["class"]) == (0.5, 1, "dog")
    assert other["class"] == "cat"
    assert (records[0]["width"], records[0]["height"]) == (80, 60)
    drawn = cv2.imread(str(tmp_path / "out" / "b.jpg"))
    factor = drawn.shape[1] // 80
    edge = drawn[20 * factor, BOX[0] * factor].astype(int)
    assert np.ptp(edge) > 50, "the box is drawn in a colour; the picture is grey"
    unsure = drawn[: 7 * factor, : 9 * factor].astype(int)
    assert np.ptp(unsure, axis=2).max() < 30, "what is unsure is not drawn"
    code, _ = run("w.ckpt", pictures / "b.jpg", tmp_path / "bare", "--save_pictures", "False")
    assert [file.name for file in (tmp_path / "bare").iterdir()] == ["predictions.json"]


@pytest.mark.parametrize(("batch_size", "calls"), [(0, [1, 1, 1]), (2, [2, 1])])
def test_pictures_are_handed_over_in_the_batches_of_the_file(runner, pictures, tmp_path, batch_size, calls):
    runner.batch_size = batch_size
    code, records = run("w.ckpt", pictures, tmp_path / "out")
    assert (code, len(records), runner.calls) == (0, 3, calls)


def test_patterns_and_names_that_meet(runner, pictures, tmp_path):
    write(pictures / "a.jpg", bright_box())
    code, records = run("w.ckpt", pictures / "a.*", tmp_path / "out")
    assert (code, len(records)) == (0, 2)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.jpg")) == ["a.jpg", "a_2.jpg"]


@pytest.mark.parametrize("what", ["folder", "pattern", "picture", "video"])
def test_results_never_take_the_place_of_their_source(runner, pictures, video, tmp_path, capsys, what):
    shutil.copy(video, pictures)
    source = {"folder": pictures, "pattern": pictures / "*.jpg", "picture": pictures / "b.jpg"}.get(
        what, pictures / video.name
    )
    before = {file.name: file.read_bytes() for file in pictures.iterdir()}
    output = pictures / ".." / pictures.name
    assert run("w.ckpt", source, output) == (2, None)
    assert "--save_pictures=False" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in pictures.iterdir()} == before
    assert run("w.ckpt", source, output, "--save_pictures", "False")[0] == 0
    assert {name: (pictures / name).read_bytes() for name in before} == before


def test_a_broken_picture_is_named_and_costs_no_other(runner, pictures, tmp_path, capsys):
    (pictures / "aa.jpg").write_bytes(b"\xff\xd8\xff no picture")
    code, records = run("w.ckpt", pictures, tmp_path / "out")
    assert (code, len(records)) == (1, 3)
    said = capsys.readouterr().out
    assert "aa.jpg" in said
    assert "1 could not be read" in said


def test_a_classifier_tells_the_best_five(runner, pictures, tmp_path, monkeypatch, capsys):
    runner.probabilities = [0.05, 0.4, 0.3, 0.0, 0.15, 0.1]
    runner.card = {"class_names": [f"kind {i}" for i in range(6)], "num_classes": 6}
    recipe = SimpleNamespace(task="classify", eval_pipeline=plain_pipeline)
    monkeypatch.setattr(prediction, "get_recipe", lambda _: recipe)
    code, records = run("w.ckpt", pictures / "b.jpg", tmp_path / "out")
    assert code == 0
    assert [item["class"] for item in records[0]["classes"]] == ["kind 1", "kind 2", "kind 4", "kind 5", "kind 0"]
    assert records[0]["classes"][0] == {"label": 1, "class": "kind 1", "probability": 0.4}
    assert "b.jpg: kind 1 0.400, kind 2 0.300" in capsys.readouterr().out
    drawn = cv2.imread(str(tmp_path / "out" / "b.jpg"))
    assert drawn.shape[0] / drawn.shape[1] > 60 / 80, "a bar with text below the picture"


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for i in range(7):
        writer.write(np.full((64, 96, 3), i * 30, np.uint8))
    writer.release()
    return path


def test_a_video_gives_a_video(runner, video, tmp_path):
    code, records = run("w.ckpt", video, tmp_path / "out")
    assert code == 0
    assert [record["frame"] for record in records] == list(range(7))
    capture = cv2.VideoCapture(str(tmp_path / "out" / "v.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 7
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    code, records = run("w.ckpt", video, tmp_path / "few", "--max_frames", "2")
    assert len(records) == 2


def test_frames_of_a_video_are_its_own(video):
    greys = [float(frame.image.mean()) for frame in open_source(str(video), 10**6)]
    np.testing.assert_allclose(greys, [i * 30 for i in range(7)], atol=4)


def test_ctrl_c_keeps_what_was_done(runner, video, tmp_path, monkeypatch):
    def press(images, valid_sizes, whole=runner.predict):
        if len(runner.calls) == 3:
            raise KeyboardInterrupt
        return whole(images, valid_sizes)

    monkeypatch.setattr(runner, "predict", press)
    code, records = run("w.ckpt", video, tmp_path / "out")
    assert (code, len(records)) == (130, 3)
    assert int(cv2.VideoCapture(str(tmp_path / "out" / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == 3


def test_an_error_leaves_nothing_half_written(runner, video, tmp_path, monkeypatch):
    def fail(images, valid_sizes, whole=runner.predict):
        if len(runner.calls) == 3:
            raise UserError("the network's output is not finite")
        return whole(images, valid_sizes)

    monkeypatch.setattr(runner, "predict", fail)
    assert run("w.ckpt", video, tmp_path / "out") == (1, None)
    assert list((tmp_path / "out").iterdir()) == []


class Camera:
    """Stands for cv2.VideoCapture with a camera that goes on for ever."""

    def __init__(self, source):
        assert source == 0

    def isOpened(self):
        return True

    def get(self, what):
        return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}[what]

    def read(self):
        return True, bright_box()

    def release(self):
        pass


def test_a_camera_is_stopped_by_its_limit_or_by_ctrl_c(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    code, records = run("w.ckpt", 0, tmp_path / "out", "--max_frames", "3")
    assert (code, [record["frame"] for record in records]) == (0, [0, 1, 2])
    assert (tmp_path / "out" / "0.mp4").stat().st_size > 0
    frames = iter(range(2))

    def press(*_, whole=runner.predict):
        if next(frames, None) is None:
            raise KeyboardInterrupt
        return whole(*_)

    monkeypatch.setattr(runner, "predict", press)
    code, records = run("w.ckpt", 0, tmp_path / "stopped")
    assert (code, len(records)) == (0, 2), "a camera ends in no other way"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_pictures_are_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(bright_box()).save(tmp_path / f"p.{suffix}", exif=exif, **options)
    (frame,) = open_source(str(tmp_path / f"p.{suffix}"), 10**6)
    with Image.open(tmp_path / f"p.{suffix}") as image:
        want = np.asarray(ImageOps.exif_transpose(image))
    assert frame.image.shape == want.shape
    assert np.abs(frame.image.astype(int) - want).max() <= (3 if suffix == "jpg" else 0)


def test_what_a_folder_holds_besides_is_named(runner, pictures, tmp_path, capsys):
    still = bytes.fromhex("00000018667479706865696300000000") + bytes(200)
    for name in ("x.HEIC", "phone.bin"):
        (pictures / name).write_bytes(still)
    (pictures / "y.avif").write_bytes(still.replace(b"heic", b"avif"))
    (pictures / "inner").mkdir()
    shutil.copy(pictures / "b.jpg", pictures / "without_suffix")
    (pictures / "labels.txt").write_text("0 0.5 0.5 0.1 0.1")
    litter = ("._b.jpg", ".DS_Store", ".hidden.jpg", "Thumbs.db")
    for name in litter:
        (pictures / name).write_bytes(b"\0\5\x16\7 no picture")
    (pictures / "__MACOSX").mkdir()
    code, records = run("w.ckpt", pictures, tmp_path / "out")
    assert (code, len(records)) == (0, 3)
    said = capsys.readouterr().out
    assert "phone.bin, x.HEIC, y.avif (convert these images to JPEG or PNG)" in said
    assert "inner/ (subfolders are not searched" in said
    assert "without_suffix (these are images" in said
    assert not any(name in said for name in (*litter, "__MACOSX", "labels.txt"))
    code, records = run("w.ckpt", pictures / "*", tmp_path / "again")
    assert (code, len(records)) == (0, 3)
    assert "x.HEIC" in capsys.readouterr().out


def test_a_folder_of_foreign_images_alone_names_them(runner, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert run("w.ckpt", tmp_path / "photos", tmp_path / "out")[0] == 2
    assert "a.heic (convert these images to JPEG or PNG)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["7", "2024"])
def test_what_is_there_is_no_camera(pictures, tmp_path, monkeypatch, name):
    pictures.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [Path(frame.source).name for frame in open_source(name, 10**6)] == ["a.png", "b.jpg", "c.bmp"]
    (tmp_path / name / "b.jpg").rename(tmp_path / "12")
    assert [frame.source for frame in open_source("12", 10**6)] == ["12"]


@pytest.mark.parametrize("suffix", ["wmv", "flv", "ts", "m4v", "MPG", "dat"])
def test_videos_are_told_by_suffix_and_by_content(runner, video, tmp_path, suffix):
    path = video.rename(tmp_path / f"clip.{suffix}")
    code, records = run("w.ckpt", path, tmp_path / "out")
    assert (code, len(records)) == (0, 7)


def test_a_video_without_frames_is_said_to_have_none(runner, tmp_path, capsys, monkeypatch):
    class Empty(Camera):
        def __init__(self, source, backend):
            assert backend == cv2.CAP_FFMPEG, "OpenCV's readers of images are never tried"

        def get(self, what):
            return 0.0

        def read(self):
            return False, None

    monkeypatch.setattr(cv2, "VideoCapture", Empty)
    (tmp_path / "v.avi").write_bytes(b"RIFF....AVI ")
    code, records = run("w.ckpt", tmp_path / "v.avi", tmp_path / "out")
    assert (code, records) == (1, [])
    assert "v.avi: the video has no readable frame" in capsys.readouterr().out


def test_frames_above_the_limit_are_refused_before_the_first(runner, video, tmp_path, capsys):
    assert run("w.ckpt", video, tmp_path / "out", "--max_image_pixels", "1000")[0] == 1
    assert "frames have 96x64 pixels, more than max_image_pixels=1000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent", "does not exist"),
        (lambda p: p / "*.gif", "matches no image"),
        (lambda p: "97", "there is no camera with this number"),
    ],
)
def test_sources_that_are_none(runner, tmp_path, capfd, make, message):
    code, records = run("w.ckpt", make(tmp_path), tmp_path / "out")
    assert code != 0
    assert records is None
    assert message in capfd.readouterr().err


def test_an_empty_folder_and_a_video_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="contains no image"):
        open_source(str(tmp_path), 10**6)
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"x\.mp4: not a video"):
        open_source(str(tmp_path / "x.mp4"), 10**6)


def test_what_is_missing_is_said(capsys):
    assert run_command(command.main, ["--config", CONFIG, "--source", "x.jpg"]) == 2
    assert "--pretrained" in capsys.readouterr().err
    assert run_command(command.main, ["--config", CONFIG, "--pretrained", "w.ckpt"]) == 2
    assert "--source" in capsys.readouterr().err


def test_names_of_labels():
    cfg = load_config(CONFIG)
    assert label_names({"class_names": ["a", "b"], "num_classes": 2}, cfg) == ["a", "b"]
    assert label_names({"class_names": [], "num_classes": 3}, cfg.replace(num_classes=3))[2] == "class 2"
    coco = label_names({"num_classes": 90}, cfg.replace(num_classes=90, label_map="coco_id_minus_1"))
    assert (coco[0], coco[11], coco[89]) == ("person", "category 12", "toothbrush")


def test_the_script_works_without_a_display(checkpoint, pictures, tmp_path):
    done = subprocess.run(
        [sys.executable, "predict.py", "--config", CONFIG, "--num_classes", "0", "--pretrained", checkpoint,
         "--source", pictures / "b.jpg", "--testing_shape", "64", "--output", tmp_path / "out"],
        cwd=ROOT, env={k: v for k, v in os.environ.items() if k != "DISPLAY"}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 images" in done.stdout
    assert (tmp_path / "out" / "b.jpg").is_file()


def test_of_equally_probable_classes_the_first_are_told(runner, pictures, tmp_path, monkeypatch):
    runner.probabilities = [0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1]
    runner.card = {"class_names": [f"kind {i}" for i in range(8)], "num_classes": 8}
    recipe = SimpleNamespace(task="classify", eval_pipeline=plain_pipeline)
    monkeypatch.setattr(prediction, "get_recipe", lambda _: recipe)
    _, records = run("w.ckpt", pictures / "b.jpg", tmp_path / "out")
    assert [item["label"] for item in records[0]["classes"]] == [1, 4, 0, 2, 3]


def test_boxes_are_cut_to_their_picture(runner, pictures, tmp_path, monkeypatch):
    """A network may see more of an object than the picture shows."""
    far = np.float32([[[-20, -9, 500, 300], [40, 30, 99, 70]]])
    scores = np.float32([[[0.9, 0.1], [0.1, 0.8]]])
    monkeypatch.setattr(runner, "predict", lambda *_: (far, scores))
    _, records = run("w.ckpt", pictures / "b.jpg", tmp_path / "out")
    whole, corner = records[0]["detections"]
    assert whole["box"] == [0, 0, 80, 60]
    assert corner["box"][2:] == [80, 60]


def test_a_drawn_video_has_the_colours_of_its_source(runner, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for _ in range(3):
        writer.write(np.full((64, 96, 3), (20, 60, 220), np.uint8))
    writer.release()
    assert run("w.ckpt", tmp_path / "v.mp4", tmp_path / "out", "--draw_threshold", "1")[0] == 0
    capture = cv2.VideoCapture(str(tmp_path / "out" / "v.mp4"))
    _, frame = capture.read()
    np.testing.assert_allclose(frame.reshape(-1, 3).mean(0), (20, 60, 220), atol=15)


@pytest.mark.parametrize(("most", "count"), [(0, 7), (3, 3), (99, 7)])
def test_a_video_tells_how_many_frames_are_to_come(video, most, count):
    media = open_source(str(video), 10**6, most)
    assert media.count == count and len(list(media)) == count
    assert not media.unreadable
