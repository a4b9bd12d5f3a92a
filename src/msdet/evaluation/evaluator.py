"""From a dataset and weights to detections on disk and a COCO score."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from msdet.checkpoints.card import apply_card
from msdet.checkpoints.weights_file import fill_network, load_weights
from msdet.errors import UsageError, UserError
from msdet.evaluation.coco.score import CocoResult, format_per_class, score_detections, write_per_class_csv
from msdet.evaluation.coco.truth import ground_truth
from msdet.evaluation.detections import DetectionWriter
from msdet.evaluation.gather import pack_detections, unpack_detections
from msdet.evaluation.left_out import without_left_out, write_left_out
from msdet.evaluation.origin import earlier_detections, origin_of, save_origin
from msdet.evaluation.voc import VocResult, score_voc
from msdet.files import stamped_folder
from msdet.models.recipe import DetectionRecipe, Recipe, get_recipe, task_of
from msdet.ops.postprocess import Detections, postprocess, warm_up
from msdet.runtime.modelarts import on_modelarts
from msdet.runtime.start import Runtime, beat, start, start_logging
from msdet.runtime.stop import StopRequest
from msdet.session.datasets import evaluation_loader, open_dataset
from msdet.text import some_of

if TYPE_CHECKING:
    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset
    from msdet.data.loading.loader import Batch, BatchLoader

log = logging.getLogger(__name__)


class PredictCell(nn.Cell):
    """uint8 images (N, H, W, 3) RGB, valid sizes int32 (N, 2) -> boxes (N, K, 4) xyxy px of the input, scores
    (N, K, C)."""

    def __init__(self, preprocess: nn.Cell, network: nn.Cell, decoder: nn.Cell, size: tuple[int, int]) -> None:
        super().__init__(auto_prefix=False)
        self.preprocess = preprocess
        self.network = network
        self.decoder = decoder
        self.size = size

    def construct(self, images: Tensor, valid_sizes: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(self.network(self.preprocess(images, valid_sizes)), self.size)


class EvaluationStopped(Exception):
    """The evaluation was to end before it was complete."""


class Evaluator:
    """Runs one dataset through a network of its own, as often as weights are given.

    The ground truth is that of the dataset as it was read, and checked then: a training that has begun does not end for
    it.

    Args:
        cfg: resolved configuration.
        recipe: of the model.
        dataset: the validation images.
        runtime: several ranks share the images, and rank 0 puts their detections together.
        stop: asked before each batch; made, it ends the evaluation, on all ranks, with `EvaluationStopped`.
    """

    # What a training follows; the best weights are those of the first.
    SCORES: ClassVar[tuple[str, ...]] = ("AP", "AP50")

    def __init__(
        self,
        cfg: Config,
        recipe: DetectionRecipe,
        dataset: DetectionDataset,
        runtime: Runtime,
        stop: StopRequest | None = None,
    ) -> None:
        self.cfg = cfg
        self.runtime = runtime
        self.stop = stop or StopRequest()
        self.dataset = dataset
        self.options = recipe.postprocess_options()
        self.truth = ground_truth(dataset)
        self._build(recipe)
        self.loader = self._open_loader(recipe)

    def _open_loader(self, recipe: Recipe) -> BatchLoader:
        """What gives the images."""
        return evaluation_loader(self.cfg, self.dataset, recipe.eval_pipeline(), self.runtime, self.stop)

    def _build(self, recipe: Recipe) -> None:
        """What `_run` computes with: here the network itself."""
        size = self.cfg.testing_size
        self.network = recipe.build_network()
        self.predict = PredictCell(recipe.build_preprocess(), self.network, recipe.build_decoder(), size)
        self.predict.set_train(False)

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_: object) -> None:
        self.loader.close()

    def load(self, weights: Mapping[str, np.ndarray], source: Path) -> None:
        """Gives the network its weights.

        Raises:
            UserError: they do not fit.
        """
        fill_network(self.network, weights, source, "Is this a checkpoint of another model or another width?")

    def detect(self) -> Iterator[tuple[int, Detections | None]]:
        """Yields (position in the dataset, detections in pixels of the original image) for every image of this rank;
        None for one that could not be read."""
        warm_up()
        for batch in self._progress(self.loader.epoch(0)):
            beat()
            boxes, scores = self._run(batch)
            for i, (index, geometry) in enumerate(zip(batch.indices.tolist(), batch.geometry, strict=True)):
                if index in self.loader.bad:
                    yield index, None
                    continue
                found = postprocess(boxes[i], scores[i], self.options)
                found.boxes = geometry.inverse(found.boxes, clip=True)
                yield index, found

    def detect_all(self) -> Iterator[tuple[int, Detections | None]] | None:
        """What `detect` yields, of all ranks, in the order of the dataset; None on ranks other than 0."""
        if self.runtime.group_size == 1:
            return self.detect()
        shares = self.gather_whole(lambda: pack_detections(self.detect()))
        return unpack_detections(shares) if self.runtime.is_master else None

    def gather_whole(self, work: Callable[[], bytes]) -> list[bytes]:
        """What the work of every rank gives, on all of them.

        Raises:
            EvaluationStopped: on every rank, if one of them was stopped.
        """
        try:
            share = b"+" + work()
        except EvaluationStopped:
            share = b"-"
        shares = self.runtime.gather(share)
        if not all(share.startswith(b"+") for share in shares):
            raise EvaluationStopped
        return [share[1:] for share in shares]

    def write(self, detections_file: Path) -> bool:
        """Detects on every image and writes the detections as COCO results, and beside them the ids of the images that
        could not be read; False on ranks other than 0."""
        detections = self.detect_all()
        if detections is None:
            return False
        unread: list[int | str] = []
        with DetectionWriter(detections_file, self.dataset.category_ids) as writer:
            for index, found in detections:
                image_id = self.dataset.samples[index].image_id
                if found is None:
                    unread.append(image_id)
                else:
                    writer.write(image_id, found)
        write_left_out(detections_file, unread)
        return True

    def score(self, detections_file: Path) -> CocoResult | None:
        """As `write`, and scores what was written; None on ranks other than 0."""
        if not self.write(detections_file):
            return None
        scored = without_left_out(self.dataset, detections_file)
        truth = self.truth if scored is self.dataset else ground_truth(scored)
        return score_detections(truth, detections_file, self.cfg.scorer)

    @staticmethod
    def numbers(result: CocoResult | None) -> list[float]:
        """The values of `SCORES`, each in 0..1; zeros on a rank that has no result."""
        return [result.ap, result.ap50] if result else [0.0, 0.0]

    def _filled_up(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Images and valid sizes of a batch of the compiled shape; what the filling gives is to be cut off again."""
        lacking = self.cfg.eval_batch_size - len(batch.images)
        images = np.concatenate((batch.images, np.zeros((lacking, *batch.images.shape[1:]), np.uint8)))
        valid_sizes = np.concatenate((batch.valid_sizes, np.tile(np.int32([batch.size]), (lacking, 1))))
        return images, valid_sizes

    def _run(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        count = len(batch.images)
        images, valid_sizes = self._filled_up(batch)
        boxes, scores = self.predict(Tensor(images), Tensor(valid_sizes))
        return boxes.asnumpy()[:count], scores.asnumpy()[:count]

    def _progress(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        bar = self.cfg.progress == "bar" or (self.cfg.progress == "auto" and sys.stderr.isatty())
        done, said = 0, time.monotonic()
        for batch in tqdm(batches, total=self.loader.steps_per_epoch, unit="batch", disable=not bar, desc="evaluate"):
            if self.stop.is_made():
                break
            yield batch
            done += len(batch.image_ids)
            if not bar and self.cfg.progress != "off" and time.monotonic() - said > 10:
                log.info("evaluated %d of %d images", done, len(self.dataset.samples))
                said = time.monotonic()
        # A loader that is stopped gives no more batches.
        if self.stop.is_made():
            raise EvaluationStopped


@on_modelarts
def evaluate(cfg: Config) -> int:
    """What eval.py does: scores a checkpoint, or an existing result file with `detections`; prints and saves the
    result.

    Raises:
        UserError: a file is missing or wrong.
    """
    if task_of(cfg) == "classify":
        from msdet.evaluation.classify import evaluate_classifier

        return evaluate_classifier(cfg)
    if cfg.detections:
        folder = stamped_folder(Path(cfg.log_path), "eval")
        start_logging(folder / "log.txt")
        dataset, _ = open_dataset(cfg, "val", need_images=False)
        refuse_undrawable(cfg, dataset)
        score_file(cfg, dataset, Path(cfg.detections), folder)
        return 0
    if not cfg.pretrained:
        raise UsageError("pretrained is empty: give the checkpoint to evaluate with --pretrained, or --detections FILE")
    source = Path(cfg.pretrained)
    runtime = start(cfg, "evaluate")
    folder = Path(runtime.by_master(lambda: str(stamped_folder(Path(cfg.log_path), "eval"))))
    start_logging(folder / "log.txt" if runtime.is_master else None, runtime.rank)
    weights, card = load_weights(source)
    dataset, cfg = open_dataset(apply_card(cfg, card, source, with_classes=True), "val")
    recipe = get_recipe(cfg)
    origin = origin_of(recipe, dataset, source)
    earlier = None if cfg.override else earlier_detections(Path(cfg.log_path), origin)
    if earlier is not None:
        if runtime.is_master:
            log.info("override is off: scoring %s", earlier)
            score_file(cfg, dataset, earlier, folder)
        return 0
    with Evaluator(cfg, recipe, dataset, runtime) as evaluator:
        evaluator.load(weights, source)
        log.info("evaluating %s on %d images of %s", source, len(dataset.samples), dataset.ann_file)
        is_written = evaluator.write(folder / "detections.json")
    if is_written:
        save_origin(folder, origin)
        score_file(cfg, dataset, folder / "detections.json", folder)
        cfg.save(folder / "config.yaml")
    return 0


def score_file(cfg: Config, dataset: DetectionDataset, detections: Path, folder: Path) -> None:
    """Scores a result file, reports and analyses it; what the network could not read is not scored.

    Args:
        cfg: configuration.
        dataset: the images, as they were read.
        detections: COCO result file.
        folder: of tables and pictures.

    Raises:
        UserError: the two do not belong together, or a record is broken.
    """
    dataset = without_left_out(dataset, detections)
    result = score_detections(ground_truth(dataset), detections, cfg.scorer)
    report(result, folder, voc_result(cfg, dataset, detections))
    analyse(cfg, dataset, detections, folder)


def voc_result(cfg: Config, dataset: DetectionDataset, detections: Path) -> VocResult | None:
    """What a result file scores by VOC's rules, where the annotations are VOC's; else None."""
    return score_voc(dataset, detections, cfg.voc_metric) if dataset.format == "voc" else None


def report(result: CocoResult, folder: Path, voc: VocResult | None = None) -> None:
    """Logs a result, and writes the table of the classes into the folder.

    The last number, `mAP`, is VOC's where there is one, else COCO's AP.
    """
    write_per_class_csv(result, folder / "per_class.csv")
    log.info("average precision of each class\n%s", format_per_class(result))
    log.info("\n%s", result.summary_text)
    if voc is not None:
        log.info("\n%s", voc.summary_text)
    log.info("\n%s\n\nmAP: %s", "=" * 40, voc.score if voc else result.ap)
    log.info("detections, table and log: %s", folder)


def _number_drawn(cfg: Config, dataset: DetectionDataset) -> int:
    return len(dataset) if cfg.result_view else cfg.draw_images


def refuse_undrawable(cfg: Config, dataset: DetectionDataset) -> None:
    """Scoring needs no images, drawing does: better said before than after.

    Raises:
        UserError: images that are to be drawn are missing, and `on_bad_image` is not `skip`.
    """
    if dataset.store is not None or cfg.on_bad_image == "skip":
        return
    paths = [sample.image_path for sample in dataset.samples[: _number_drawn(cfg, dataset)]]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        key = "result_view" if cfg.result_view else "draw_images"
        raise UserError(
            f"{cfg.where(key)} draws on the images, but {len(missing)} of {len(paths)} are missing: "
            f"{some_of(missing, 3)}. Without it none is needed"
        )


def analyse(cfg: Config, dataset: DetectionDataset, detections: Path, folder: Path) -> None:
    """What `draw_images`, `result_view` and `recommend_threshold` ask for, from a result file into the folder."""
    drawn = _number_drawn(cfg, dataset)
    if drawn:
        from msdet.evaluation.images import draw_results

        draw_results(dataset, detections, folder / "pictures", drawn, cfg.on_bad_image)
        log.info("pictures of detections: %s", folder / "pictures")
    if cfg.recommend_threshold:
        from msdet.evaluation.analysis import recommend_thresholds

        recommend_thresholds(ground_truth(dataset), detections, folder / "thresholds")
        log.info("curves and best threshold of each class: %s", folder / "thresholds")
