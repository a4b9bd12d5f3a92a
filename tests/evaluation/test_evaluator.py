"""The evaluator around a network that finds everything: what it gives to the scorers, and what training keeps of it."""

import json
import logging
from contextlib import contextmanager
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mindspore import Tensor

import eval as evaluation
from msdet.config import load_config
from msdet.data.formats.imagefolder import read_image_folder
from msdet.errors import UserError
from msdet.evaluation import images as pictures
from msdet.evaluation.classification import ClassificationTask
from msdet.evaluation.coco.score import CocoResult
from msdet.evaluation.coco.truth import ground_truth
from msdet.evaluation.detection import DetectionTask
from msdet.evaluation.detection_table import read_detections
from msdet.evaluation.evaluator import EvaluationStopped, Evaluator
from msdet.evaluation.gather import pack_detections, unpack_detections, with_masters_statistics
from msdet.evaluation.left_out import without_left_out
from msdet.evaluation.predictor import CheckpointPredictor
from msdet.evaluation.result_file import DetectionWriter
from msdet.models.recipe import get_recipe
from msdet.ops.postprocess import Detections
from msdet.runtime.start import Runtime
from msdet.runtime.stop import StopRequest
from msdet.session.datasets import open_dataset
from msdet.training.hooks.evaluation import Evaluate
from msdet.training.train import _scoring
from tests.data.conftest import CocoFolder, write_image
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")
FLAGS = ("--config=configs/yolov3.yaml", "--num_classes=0", "--testing_shape=64", "--num_parallel_workers=0",
         "--progress=off")  # fmt: skip


class FindsAll:
    """Gives the annotated boxes, in px of the input, `margin` px wider on each side."""

    margin = 0.0

    def __init__(self, recipe, dataset):
        self.recipe, self.dataset = recipe, dataset

    def predict(self, batch):
        count, classes = len(batch.images), len(self.dataset.class_names)
        boxes, scores = np.zeros((count, 9, 4), np.float32), np.zeros((count, 9, classes), np.float32)
        for i, (index, geometry) in enumerate(zip(batch.indices.tolist(), batch.geometry, strict=True)):
            sample = self.dataset.samples[index]
            found = geometry.forward(sample.boxes) + np.float32([-1, -1, 1, 1]) * self.margin
            boxes[i, : len(found)] = found
            scores[i, np.arange(len(found)), sample.labels] = 0.9
        return boxes, scores


@pytest.fixture
def folder(tmp_path):
    """Three images with a box each."""
    folder = CocoFolder(tmp_path / "data")
    folder.image_dir = folder.image_dir.rename(folder.root / "val")
    folder.ann_file = folder.ann_file.with_name("val.json")
    folder.add_image(1, 80, 60, boxes=[[0, 0, 40, 30]])
    folder.add_image(2, 80, 60, boxes=[[20, 10, 60, 50]])
    folder.add_image("three", 60, 80, boxes=[[5, 5, 30, 30]], category_id=7)
    folder.write()
    return folder


def opened(folder, *flags):
    cfg = load_config(FLAGS[0][9:], [*FLAGS[1:], f"--data_dir={folder.root}", *flags], "eval")
    return open_dataset(cfg, "val")


def evaluator(folder, *flags, kind=FindsAll, runtime=None):
    dataset, cfg = opened(folder, *flags)
    recipe = get_recipe(cfg)
    return Evaluator(DetectionTask(recipe, dataset), kind(recipe, dataset), runtime or Runtime("CPU"))


def scored(evaluator, file=None):
    return evaluator.task.score(evaluator.collect(file))


def test_everything_is_found(folder, tmp_path):
    with evaluator(folder) as perfect:
        result = scored(perfect, tmp_path / "found.json")
        assert perfect.task.score(read_detections(tmp_path / "found.json")) == result
        assert scored(perfect) == result  # without a file
    assert result.ap == 1 and result.images == 3


class FindsColour(CheckpointPredictor):
    """Its network gives one box, whose score is the brightness of its image."""

    def __init__(self, recipe, dataset):
        self.batch_size = recipe.cfg.eval_batch_size

        def predict(images, valid_sizes):
            bright = images.asnumpy().mean((1, 2, 3)) / 255
            boxes = np.tile(np.float32([8, 8, 40, 40]), (len(bright), 1, 1))
            return Tensor(boxes), Tensor(np.tile(np.float32(bright)[:, None, None], (1, 1, len(dataset.class_names))))

        self.cell = predict


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_each_image_gets_what_was_found_on_it_for_any_size_of_the_batches(folder, tmp_path, batch):
    """Also in the last batch, which is filled up with images that are nobody's."""
    tones = {1: 40, 2: 120, "three": 200}
    for image_id, tone in tones.items():
        height, width = (80, 60) if image_id == "three" else (60, 80)
        cv2.imwrite(str(folder.image_dir / f"{image_id}.jpg"), np.full((height, width, 3), tone, np.uint8))
    with evaluator(folder, f"--eval_batch_size={batch}", kind=FindsColour) as seeing:
        seeing.collect(tmp_path / "found.json")
    scores = {record["image_id"]: record["score"] for record in json.loads((tmp_path / "found.json").read_text())}
    assert set(scores) == set(tones)
    assert scores[1] < scores[2] < scores["three"]


def test_detections_stay_inside_of_their_image(folder, tmp_path):
    class FindsMore(FindsAll):
        margin = 9.0

    with evaluator(folder, kind=FindsMore) as wide:
        wide.collect(tmp_path / "found.json")
    records = {record["image_id"]: record["bbox"] for record in json.loads((tmp_path / "found.json").read_text())}
    assert records[1][:2] == [0, 0]
    assert (records[2][0] + records[2][2], records[2][1] + records[2][3]) == (80, 60)


@pytest.mark.parametrize("kind", ["broken", "empty", "removed"])
def test_an_image_that_cannot_be_read_is_not_scored(folder, tmp_path, caplog, kind):
    """Neither its objects count nor detections on it; and the same when the detections are scored again."""
    dataset, _ = opened(folder)
    path = folder.image_dir / "2.jpg"
    with evaluator(folder, "--on_bad_image=skip") as perfect:
        path.unlink() if kind == "removed" else path.write_bytes(b"" if kind == "empty" else b"no image")
        result = scored(perfect, tmp_path / "out" / "found.json")
    assert (result.ap, result.images, result.detections) == (pytest.approx(1), 2, 2)
    assert "skipped 1 images" in caplog.text
    kept = without_left_out(dataset, read_detections(tmp_path / "out" / "found.json").left_out)
    assert [sample.image_id for sample in kept.samples] == [1, "three"]
    assert ground_truth(kept).other_images == {2}
    # With all images readable again, the next detections count all of them.
    write_image(path, 80, 60)
    with evaluator(folder, "--on_bad_image=skip") as perfect:
        assert scored(perfect, tmp_path / "out" / "found.json").images == 3


def test_detections_without_an_image_are_scored_without_it_by_the_command(folder, tmp_path, capsys):
    (folder.image_dir / "2.jpg").write_bytes(b"no image")
    with evaluator(folder, "--on_bad_image=skip") as perfect:
        perfect.collect(tmp_path / "found.json")
    flags = (f"--data_dir={folder.root}", f"--detections={tmp_path}/found.json", f"--log_path={tmp_path}/out")
    assert run(evaluation.main, *FLAGS, *flags, "--on_bad_image=skip", "--draw_images=3") == 0
    text = capsys.readouterr().out
    assert float(text.partition("mAP: ")[2].split()[0]) == pytest.approx(1)
    assert sorted(path.name for path in tmp_path.glob("out/*/pictures/*")) == ["1.jpg", "three.jpg"]


def test_not_one_image_can_be_read(folder, tmp_path):
    for path in folder.image_dir.iterdir():
        path.write_bytes(b"no image")
    with (
        evaluator(folder, "--on_bad_image=skip") as perfect,
        pytest.raises(UserError, match="not one of 3 images of .*val.json could be read"),
    ):
        scored(perfect, tmp_path / "found.json")


def test_the_truth_is_read_with_the_evaluator(folder, tmp_path):
    """A file that is changed, or gone, while a training goes on changes nothing."""
    with evaluator(folder) as perfect:
        folder.ann_file.unlink()
        assert scored(perfect, tmp_path / "found.json").ap == 1


def test_what_ranks_found_and_could_not_read_is_put_together():
    rng = np.random.default_rng(0)

    def some(count):
        boxes, labels = rng.uniform(0, 9, (count, 4)).astype(np.float32), rng.integers(0, 3, count).astype(np.int32)
        return Detections(boxes, rng.random(count, np.float32), labels)

    found = [some(2), None, some(0), some(1), None]
    shares = [pack_detections((i, found[i]) for i in rank) for rank in ((0, 2, 4), (1, 3))]
    again = list(unpack_detections(shares))
    assert [index for index, _ in again] == [0, 1, 2, 3, 4]
    for (_, one), other in zip(again, found, strict=True):
        if other is None:
            assert one is None
            continue
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_holes_among_the_ids_are_no_reason_to_stop(folder, tmp_path, caplog):
    """A young network may find nothing but the class of an id that the data do not have."""

    class FindsHoles(FindsAll):
        def predict(self, batch):
            boxes, scores = super().predict(batch)
            return boxes, np.where(np.arange(scores.shape[2]) == 9, scores.max(2, keepdims=True), 0)

    # The annotations have the ids 3 and 7, the network ten outputs.
    flags = ("--label_map=coco_id_minus_1", "--num_classes=10", "--class_names=cat,dog")
    with caplog.at_level(logging.WARNING), evaluator(folder, *flags, kind=FindsHoles) as lost:
        assert scored(lost, tmp_path / "found.json").ap == 0
    assert "belong together" not in caplog.text


class FindsClasses:
    """Is sure of the class of each image."""

    def __init__(self, dataset):
        self.dataset = dataset

    def predict(self, batch):
        return (np.eye(3, dtype=np.float32)[self.dataset.labels[batch.indices]],)


def classifier(cfg, dataset, predictor):
    return Evaluator(ClassificationTask(get_recipe(cfg), dataset), predictor, Runtime("CPU"))


def test_a_picture_that_cannot_be_read_is_not_scored(tmp_path):
    for number, name in enumerate(("cat", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    dataset = read_image_folder(tmp_path)
    (tmp_path / "cow" / "a.jpg").write_bytes(b"")
    cfg = load_config("configs/darknet53_imagenet.yaml", ["--num_classes=3", "--on_bad_image=skip", *FLAGS[3:]], "eval")
    with classifier(cfg, dataset, FindsClasses(dataset)) as perfect:
        result = scored(perfect)
    assert result.labels.tolist() == result.predicted.tolist() == [0, 2]
    for path in tmp_path.glob("*/a.jpg"):
        path.write_bytes(b"")
    with (
        classifier(cfg, dataset, FindsClasses(dataset)) as perfect,
        pytest.raises(UserError, match="not one of 3 images"),
    ):
        scored(perfect)


class TwoRanks(Runtime):
    """Rank 0 of two; the other one gives what it is told to."""

    others = b""

    def gather(self, data):
        return [data, self.others]


def test_the_answers_of_all_ranks_are_put_together(tmp_path):
    for number, name in enumerate(("cat", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    dataset = read_image_folder(tmp_path)
    (tmp_path / "dog" / "a.jpg").write_bytes(b"")
    cfg = load_config("configs/darknet53_imagenet.yaml", ["--num_classes=3", "--on_bad_image=skip", *FLAGS[3:]], "eval")
    task = ClassificationTask(get_recipe(cfg), dataset)
    runtime = TwoRanks("CPU", rank=0, group_size=2)
    with Evaluator(task, FindsClasses(dataset), runtime) as two:
        # The other rank had the second image, and was wrong about it.
        TwoRanks.others = b"+" + task.pack([(1, np.int32([0, 2]))])
        result = scored(two)
        assert result.labels.tolist() == [0, 1] and result.predicted.tolist() == [0, 0]
        assert result.places.tolist() == [0, 2]
        TwoRanks.others = b"-"
        with pytest.raises(EvaluationStopped):
            two.collect()


def test_a_request_to_stop_ends_it(folder):
    dataset, cfg = opened(folder)
    recipe, stop = get_recipe(cfg), StopRequest()
    stop.is_polled = True

    class Stops(FindsAll):
        def predict(self, batch):
            stop.make()
            return super().predict(batch)

    task = DetectionTask(recipe, dataset)
    with (
        Evaluator(task, Stops(recipe, dataset), Runtime("CPU"), stop) as stopped,
        pytest.raises(EvaluationStopped),
    ):
        stopped.collect()


def test_the_scores_of_a_training_by_their_names():
    """The best weights are those of the first."""
    result = CocoResult((0.25, 0.5, *[0.1] * 10), [], 1, 1)
    scores = dict(zip(DetectionTask.SCORES, DetectionTask.numbers(None, result), strict=True))
    assert scores == {"AP": 0.25, "AP50": 0.5}
    assert next(iter(scores)) == "AP"


class SecondRank(Runtime):
    """Rank 1 of two; rank 0 gives ones."""

    def gather(self, data):
        return [np.ones(len(data) // 4, np.float32).tobytes(), data]


def test_the_statistics_of_rank_0_are_scored():
    """Weights are alike on all ranks; batch-norm statistics are those of each rank's own images."""
    shapes = {"w": (2, 2), "mean": (3,), "var": (1, 2)}
    own = {name: np.full(shape, 7, np.float32) for name, shape in shapes.items()}
    merged = with_masters_statistics(own, {"w"}, SecondRank("CPU", rank=1, group_size=2))
    assert merged.keys() == own.keys()
    np.testing.assert_array_equal(merged["w"], own["w"])
    np.testing.assert_array_equal(merged["mean"], np.ones(3))
    np.testing.assert_array_equal(merged["var"], np.ones((1, 2)))


def test_a_training_of_several_ranks_scores_the_statistics_of_rank_0(tmp_path):
    """And tells the scores of rank 0 on all of them."""

    class Rank(SecondRank):
        def gather_numbers(self, values):
            return np.float64([[0.25, 0.5], values])

    loaded = {}
    evaluator = SimpleNamespace(
        task=SimpleNamespace(SCORES=("AP", "AP50")), collect=lambda path: None,
        predictor=SimpleNamespace(load=lambda weights, source: loaded.update(weights)),
    )  # fmt: skip
    trainer = SimpleNamespace(
        runtime=Rank("CPU", rank=1, group_size=2), trainable_names=lambda: {"w"}, folder=tmp_path, epoch=1,
    )  # fmt: skip
    clock = []

    @contextmanager
    def paused():
        clock.append("stands" if not loaded else "late")
        yield
        clock.append("goes on")

    score = _scoring(trainer, evaluator, SimpleNamespace(paused=paused))
    assert score({"w": np.float32([7]), "mean": np.float32([7])}) == {"AP": 0.25, "AP50": 0.5}
    assert (loaded["w"], loaded["mean"]) == (7, 1)
    assert clock == ["stands", "goes on"]


class FindsNothing:
    """Holds all classes equally probable but the last, which is less so."""

    def predict(self, batch):
        return (np.tile(np.float32([0.3, 0.3, 0.3, 0.1]), (len(batch.images), 1)),)


def test_of_equally_probable_classes_the_first_is_the_answer(tmp_path):
    """Whatever sorts them: an accuracy is the same on every machine."""
    for number, name in enumerate(("ant", "bee", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    cfg = load_config("configs/darknet53_imagenet.yaml", ["--num_classes=4", *FLAGS[3:]], "eval")
    with classifier(cfg, read_image_folder(tmp_path), FindsNothing()) as unsure:
        result = scored(unsure)
    assert result.predicted.tolist() == [0, 0, 0, 0]
    assert result.places.tolist() == [0, 1, 2, 3]
    assert [result.accuracy(k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1]


def test_pictures_show_detections_from_a_score_of_0_3_on(folder, tmp_path, monkeypatch):
    drawn, real = [], pictures.draw_boxes
    monkeypatch.setattr(pictures, "draw_boxes", lambda *args: (drawn.append(args[1:]), real(*args))[1])
    dataset, _ = opened(folder)
    boxes = np.float32([[0, 0, 10, 10], [10, 10, 30, 30], [5, 5, 9, 9]])
    with DetectionWriter(tmp_path / "found.json", dataset.category_ids) as writer:
        writer.write(1, Detections(boxes, np.float32([0.31, 0.29, 0.9]), np.int32([0, 0, 1])))
    (path,) = pictures.draw_results(dataset, tmp_path / "found.json", tmp_path / "out", 1)
    assert path.name == "1.jpg"
    (shown, labels, names, scores), (truth, own, *_) = drawn
    np.testing.assert_allclose(shown, boxes[[0, 2]])
    np.testing.assert_allclose(scores, [0.31, 0.9])
    assert labels.tolist() == [0, 1] and names == ["cat", "dog"]
    np.testing.assert_allclose(truth, [[0, 0, 40, 30]])
    assert own.tolist() == [0]


def test_the_best_weights_are_those_of_the_best_ap():
    """Not of the best AP50, nor of the newest."""
    answers = iter([(0.2, 0.5), (0.3, 0.4), (0.25, 0.9)])
    hook = Evaluate.__new__(Evaluate)
    hook.evaluate = lambda _: dict(zip(DetectionTask.SCORES, next(answers), strict=True))
    hook.best_path, hook.on_scored = None, []
    hook.saver = SimpleNamespace(save=lambda _: None, note_score=lambda _: None)
    trainer = SimpleNamespace(weights_to_use=dict, best_score=None, epoch=0, card={})
    best = []
    for trainer.epoch in (1, 2, 3):
        hook._score(trainer)
        best.append(trainer.best_score)
    assert best == [0.2, 0.3, 0.3]
