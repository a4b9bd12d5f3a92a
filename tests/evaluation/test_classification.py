"""Classification: ranks of the true class, unreadable images, several ranks, and the confusion matrix."""

import numpy as np
import pytest

from msdet.config import load_config
from msdet.data.formats.imagefolder import read_image_folder
from msdet.errors import UserError
from msdet.evaluation.classification import ClassificationTask, draw_confusion
from msdet.evaluation.evaluator import EvaluationStopped, Evaluator
from msdet.models.recipe import get_recipe
from msdet.runtime.start import Runtime
from tests.data.conftest import write_image
from tests.evaluation.evaluators import FLAGS, PerfectClassifier, classifier, scored

pytestmark = pytest.mark.usefixtures("at_root")


def test_an_unreadable_image_is_not_scored(tmp_path):
    for number, name in enumerate(("cat", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    dataset = read_image_folder(tmp_path)
    (tmp_path / "cow" / "a.jpg").write_bytes(b"")
    cfg = load_config("configs/darknet53_imagenet.yaml", ["--num_classes=3", "--on_bad_image=skip", *FLAGS[3:]], "eval")
    with classifier(cfg, dataset, PerfectClassifier(dataset)) as perfect:
        result = scored(perfect)
    assert result.labels.tolist() == result.predicted.tolist() == [0, 2]
    for path in tmp_path.glob("*/a.jpg"):
        path.write_bytes(b"")
    with (
        classifier(cfg, dataset, PerfectClassifier(dataset)) as perfect,
        pytest.raises(UserError, match="none of the 3 images"),
    ):
        scored(perfect)


class TwoRanks(Runtime):
    """Rank 0 of two; `others` is the data of rank 1."""

    others = b""

    def gather(self, data):
        return [data, self.others]


def test_the_predictions_of_all_ranks_are_collected(tmp_path):
    for number, name in enumerate(("cat", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    dataset = read_image_folder(tmp_path)
    (tmp_path / "dog" / "a.jpg").write_bytes(b"")
    cfg = load_config("configs/darknet53_imagenet.yaml", ["--num_classes=3", "--on_bad_image=skip", *FLAGS[3:]], "eval")
    task = ClassificationTask(get_recipe(cfg), dataset)
    runtime = TwoRanks("CPU", rank=0, group_size=2)
    with Evaluator(task, PerfectClassifier(dataset), runtime) as two:
        # The other rank had the second image, and misclassified it.
        TwoRanks.others = b"+" + task.pack([(1, np.int32([0, 2]))])
        result = scored(two)
        assert result.labels.tolist() == [0, 1] and result.predicted.tolist() == [0, 0]
        assert result.ranks.tolist() == [0, 2]
        TwoRanks.others = b"-"
        with pytest.raises(EvaluationStopped):
            two.collect()


class UnsureClassifier:
    """Predicts equal probabilities for all classes but the last, which gets a lower one."""

    def predict(self, batch):
        return (np.tile(np.float32([0.3, 0.3, 0.3, 0.1]), (len(batch.images), 1)),)


def test_of_equally_probable_classes_the_first_is_predicted(tmp_path):
    """The accuracy does not depend on the sorting algorithm."""
    for number, name in enumerate(("ant", "bee", "cow", "dog")):
        write_image(tmp_path / name / "a.jpg", 40, 40, seed=number)
    cfg = load_config("configs/darknet53_imagenet.yaml", ["--num_classes=4", *FLAGS[3:]], "eval")
    with classifier(cfg, read_image_folder(tmp_path), UnsureClassifier()) as unsure:
        result = scored(unsure)
    assert result.predicted.tolist() == [0, 0, 0, 0]
    assert result.ranks.tolist() == [0, 1, 2, 3]
    assert [result.accuracy(k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1]


NAMES = ["$x_{$", "100%", "a/b", "..", "two\nlines", "\\frac$", "y" * 300, "$a$"]


def test_the_confusion_matrix_is_drawn_with_any_class_names(tmp_path):
    draw_confusion(np.eye(len(NAMES), dtype=int), NAMES, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000


@pytest.mark.parametrize("name", NAMES)
def test_a_confusion_matrix_of_one_class_is_drawn(tmp_path, name):
    draw_confusion(np.ones((1, 1), int), [name], tmp_path / "c.png")
    assert (tmp_path / "c.png").is_file()
