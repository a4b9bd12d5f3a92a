"""Evaluators around predictors that return the ground truth."""

import numpy as np

from msdet.config import load_config
from msdet.evaluation.classification import ClassificationTask
from msdet.evaluation.detection import DetectionTask
from msdet.evaluation.evaluator import Evaluator
from msdet.models.recipe import get_recipe
from msdet.runtime.start import Runtime
from msdet.session.datasets import open_dataset

FLAGS = ("--config=configs/yolov3.yaml", "--num_classes=0", "--testing_shape=64", "--num_parallel_workers=0",
         "--progress=off")  # fmt: skip


class PerfectDetector:
    """Returns the annotated boxes in px of the network input, `margin` px wider on each side."""

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


def opened(folder, *flags):
    cfg = load_config(FLAGS[0][9:], [*FLAGS[1:], f"--data_dir={folder.root}", *flags], "eval")
    return open_dataset(cfg, "val")


def evaluator(folder, *flags, kind=PerfectDetector, runtime=None):
    dataset, cfg = opened(folder, *flags)
    recipe = get_recipe(cfg)
    return Evaluator(DetectionTask(recipe, dataset), kind(recipe, dataset), runtime or Runtime("CPU"))


def scored(evaluator, file=None):
    return evaluator.task.score(evaluator.collect(file))


class PerfectClassifier:
    """Predicts the true class of each image with probability 1."""

    def __init__(self, dataset):
        self.dataset = dataset

    def predict(self, batch):
        return (np.eye(3, dtype=np.float32)[self.dataset.labels[batch.indices]],)


def classifier(cfg, dataset, predictor):
    return Evaluator(ClassificationTask(get_recipe(cfg), dataset), predictor, Runtime("CPU"))


class SecondRank(Runtime):
    """Rank 1 of two; the data of rank 0 are ones."""

    def gather(self, data):
        return [np.ones(len(data) // 4, np.float32).tobytes(), data]
