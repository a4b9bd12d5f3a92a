"""The detection task: from boxes and scores to COCO and VOC metrics and the report."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from msdet.errors import UserError
from msdet.evaluation.coco.score import CocoResult, format_per_class, score_detections, write_per_class_csv
from msdet.evaluation.coco.truth import GroundTruth, ground_truth
from msdet.evaluation.detection_table import DetectionTable
from msdet.evaluation.gather import pack_detections, unpack_detections
from msdet.evaluation.result_file import DetectionWriter
from msdet.evaluation.task import Task
from msdet.evaluation.unreadable import without_unreadable, write_unreadable_ids
from msdet.evaluation.voc import VocResult, score_voc
from msdet.ops.postprocess import Detections, postprocess, warm_up
from msdet.session.datasets import evaluation_loader
from msdet.text import first_few

if TYPE_CHECKING:
    from msdet.data.dataset import DetectionDataset
    from msdet.data.loading.loader import BatchLoader
    from msdet.models.recipe import DetectionRecipe
    from msdet.ops.postprocess import PostprocessOptions
    from msdet.runtime.start import Runtime
    from msdet.runtime.stop import StopRequest

log = logging.getLogger(__name__)


class DetectionTask(Task[Detections, DetectionTable, CocoResult]):
    """Detection, see `Task`.

    Args:
        recipe: recipe of the model.
        dataset: the images and their annotations.
        options: options of the post-processing; None: those of the recipe.
    """

    SCORE_NAMES: ClassVar[tuple[str, ...]] = ("AP", "AP50")

    def __init__(
        self, recipe: DetectionRecipe, dataset: DetectionDataset, options: PostprocessOptions | None = None
    ) -> None:
        super().__init__(recipe, dataset)
        self.options = options or recipe.postprocess_options()
        self.truth = ground_truth(dataset)
        warm_up()

    def loader(self, runtime: Runtime, stop: StopRequest) -> BatchLoader:
        return evaluation_loader(self.cfg, self.dataset, self.recipe.eval_pipeline(), runtime, stop)

    def read(self, batch: Any, outputs: tuple[np.ndarray, ...]) -> Iterator[Detections]:
        """Yields the final detections of each image, boxes in px of the original image."""
        boxes, scores = outputs
        for i, geometry in enumerate(batch.geometry):
            detections = postprocess(boxes[i], scores[i], self.options)
            detections.boxes = geometry.inverse(detections.boxes, clip=True)
            yield detections

    def pack(self, predictions: Iterable[tuple[int, Detections | None]]) -> bytes:
        return pack_detections(predictions)

    def unpack(self, shares: Sequence[bytes]) -> Iterator[tuple[int, Detections | None]]:
        return unpack_detections(shares)

    def collect(self, predictions: Iterable[tuple[int, Detections | None]], file: Path | None) -> DetectionTable:
        """Collects all detections; if a file is given, streams them to it as a COCO result file and writes the ids of
        unreadable images next to it."""
        unreadable_ids: list[int | str] = []
        with DetectionWriter(file, self.dataset.category_ids) as writer:
            for index, detections in predictions:
                image_id = self.dataset.samples[index].image_id
                if detections is None:
                    unreadable_ids.append(image_id)
                else:
                    writer.write(image_id, detections)
        if file is not None:
            write_unreadable_ids(file, unreadable_ids)
        return writer.builder.table(unreadable_ids)

    def score(self, collected: DetectionTable) -> CocoResult:
        return score_detections(self._scored_truth(collected), collected, self.cfg.scorer)

    def _scored(self, collected: DetectionTable) -> DetectionDataset:
        return without_unreadable(self.dataset, collected.unreadable_ids)

    def _scored_truth(self, collected: DetectionTable) -> GroundTruth:
        scored = self._scored(collected)
        return self.truth if scored is self.dataset else ground_truth(scored)

    def headline_scores(self, result: CocoResult) -> list[float]:
        return [result.ap, result.ap50]

    def report(self, collected: DetectionTable, folder: Path) -> None:
        """Logs the scores and writes the per-class table; the final `mAP` is that of VOC for VOC annotations, else the
        COCO AP. Then writes the output of `draw_images`, `result_view` and `recommend_threshold`."""
        result = self.score(collected)
        voc = self.voc_result(collected)
        write_per_class_csv(result, folder / "per_class.csv")
        log.info("average precision per class\n%s", format_per_class(result))
        log.info("\n%s", result.summary_text)
        if voc is not None:
            log.info("\n%s", voc.summary_text)
        log.info("\n%s\n\nmAP: %s", "=" * 40, voc.score if voc else result.ap)
        log.info("detections, table and log: %s", folder)
        self._draw(collected, folder)

    def voc_result(self, collected: DetectionTable) -> VocResult | None:
        """The VOC metric if the annotations are in VOC format, else None."""
        scored = self._scored(collected)
        return score_voc(scored, collected, self.cfg.voc_metric) if scored.format == "voc" else None

    def _number_drawn(self) -> int:
        return len(self.dataset) if self.cfg.result_view else self.cfg.draw_images

    def check_drawable(self) -> None:
        """Checks that the images to draw exist, since scoring alone needs none.

        Raises:
            UserError: images to draw are missing, and `on_bad_image` is not `skip`.
        """
        cfg = self.cfg
        if self.dataset.store is not None or cfg.on_bad_image == "skip":
            return
        paths = [sample.image_path for sample in self.dataset.samples[: self._number_drawn()]]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            key = "result_view" if cfg.result_view else "draw_images"
            raise UserError(
                f"{cfg.where(key)} draws on the images, but {len(missing)} of {len(paths)} are missing: "
                f"{first_few(missing, 3)}. Without it no image is needed"
            )

    def _draw(self, collected: DetectionTable, folder: Path) -> None:
        drawn = self._number_drawn()
        if drawn:
            from msdet.evaluation.images import draw_results

            draw_results(self._scored(collected), collected, folder / "pictures", drawn, self.cfg.on_bad_image)
            log.info("images with detections: %s", folder / "pictures")
        if self.cfg.recommend_threshold:
            from msdet.evaluation.analysis import recommend_thresholds

            recommend_thresholds(self._scored_truth(collected), collected, folder / "thresholds")
            log.info("precision-recall curve and best threshold of each class: %s", folder / "thresholds")
