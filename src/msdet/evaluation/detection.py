"""Detection as a task: from boxes and scores to COCO's numbers."""

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
from msdet.evaluation.left_out import without_left_out, write_left_out
from msdet.evaluation.result_file import DetectionWriter
from msdet.evaluation.task import Task
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
    """See `Task`.

    Args:
        recipe: of the model.
        dataset: the images.
        options: of the post-processing; None: the recipe's.
    """

    SCORES: ClassVar[tuple[str, ...]] = ("AP", "AP50")

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
        """The final detections of each image, boxes in px of the original image."""
        boxes, scores = outputs
        for i, geometry in enumerate(batch.geometry):
            found = postprocess(boxes[i], scores[i], self.options)
            found.boxes = geometry.inverse(found.boxes, clip=True)
            yield found

    def pack(self, found: Iterable[tuple[int, Detections | None]]) -> bytes:
        return pack_detections(found)

    def unpack(self, shares: Sequence[bytes]) -> Iterator[tuple[int, Detections | None]]:
        return unpack_detections(shares)

    def collect(self, found: Iterable[tuple[int, Detections | None]], file: Path | None) -> DetectionTable:
        """All detections, written to a COCO result file as they come, if one is named; beside it the ids of the images
        that could not be read."""
        left_out: list[int | str] = []
        with DetectionWriter(file, self.dataset.category_ids) as writer:
            for index, one in found:
                image_id = self.dataset.samples[index].image_id
                if one is None:
                    left_out.append(image_id)
                else:
                    writer.write(image_id, one)
        if file is not None:
            write_left_out(file, left_out)
        return writer.builder.table(left_out)

    def score(self, collected: DetectionTable) -> CocoResult:
        return score_detections(self._scored_truth(collected), collected, self.cfg.scorer)

    def _scored(self, collected: DetectionTable) -> DetectionDataset:
        return without_left_out(self.dataset, collected.left_out)

    def _scored_truth(self, collected: DetectionTable) -> GroundTruth:
        scored = self._scored(collected)
        return self.truth if scored is self.dataset else ground_truth(scored)

    def numbers(self, result: CocoResult) -> list[float]:
        return [result.ap, result.ap50]

    def report(self, collected: DetectionTable, folder: Path) -> None:
        """Logs the scores and writes the table of the classes; the last number, `mAP`, is VOC's where the annotations
        are VOC's, else COCO's AP. Then what `draw_images`, `result_view` and `recommend_threshold` ask for."""
        result = self.score(collected)
        voc = self.voc_result(collected)
        write_per_class_csv(result, folder / "per_class.csv")
        log.info("average precision of each class\n%s", format_per_class(result))
        log.info("\n%s", result.summary_text)
        if voc is not None:
            log.info("\n%s", voc.summary_text)
        log.info("\n%s\n\nmAP: %s", "=" * 40, voc.score if voc else result.ap)
        log.info("detections, table and log: %s", folder)
        self._draw(collected, folder)

    def voc_result(self, collected: DetectionTable) -> VocResult | None:
        """What detections score by VOC's rules, where the annotations are VOC's; else None."""
        scored = self._scored(collected)
        return score_voc(scored, collected, self.cfg.voc_metric) if scored.format == "voc" else None

    def _number_drawn(self) -> int:
        return len(self.dataset) if self.cfg.result_view else self.cfg.draw_images

    def refuse_undrawable(self) -> None:
        """Scoring needs no images, drawing does: better said before than after.

        Raises:
            UserError: images that are to be drawn are missing, and `on_bad_image` is not `skip`.
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
                f"{first_few(missing, 3)}. Without it none is needed"
            )

    def _draw(self, collected: DetectionTable, folder: Path) -> None:
        drawn = self._number_drawn()
        if drawn:
            from msdet.evaluation.images import draw_results

            draw_results(self._scored(collected), collected, folder / "pictures", drawn, self.cfg.on_bad_image)
            log.info("pictures of detections: %s", folder / "pictures")
        if self.cfg.recommend_threshold:
            from msdet.evaluation.analysis import recommend_thresholds

            recommend_thresholds(self._scored_truth(collected), collected, folder / "thresholds")
            log.info("curves and best threshold of each class: %s", folder / "thresholds")
