"""The result of a check as one self-contained HTML page, made by the template `report.html.jinja`."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from msdet.data.validation.findings import SEVERITIES, SplitReport, by_kind
from msdet.data.validation.statistics import BoxTable
from msdet.errors import UserError
from msdet.files import atomic_path
from msdet.ops.draw import draw_boxes
from msdet.ops.fonts import chart_fonts, drawable
from msdet.text import one_line, printable
from msdet.tools.check.report import format_value, worst_severity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from msdet.config import Config
    from msdet.data.dataset import DetectionDataset, Sample
    from msdet.tools.check.checked_split import CheckedSplit

_TEMPLATE = "report.html.jinja"
# Findings of one kind that are listed, and the number up to which the list is unfolded.
_MAX_LISTED, _MAX_UNFOLDED = 200, 20
# Number of images per section and their longest side in px, classes in the chart, and boxes in the scatter plot.
_MAX_IMAGES, _IMAGE_SIDE, _MAX_CLASSES, _MAX_POINTS = 16, 400, 40, 5000


def write_html(cfg: Config, checked: Sequence[CheckedSplit], path: Path) -> None:
    """Writes findings, statistics, plots and images of all splits to one HTML file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("msdet.tools.check", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE).render(
        data_dir=str(cfg.data_dir),
        model=cfg.model,
        size=cfg.testing_size,
        severities=SEVERITIES,
        splits=[_split_content(cfg, split) for split in checked],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(printable(page), encoding="utf-8")


def _split_content(cfg: Config, checked: CheckedSplit) -> dict[str, Any]:
    """The variables of the template for one split."""
    report, dataset = checked.report, checked.dataset
    return {
        "report": report,
        "statistics": {name: format_value(value) for name, value in report.statistics.items()},
        "groups": [
            {
                "kind": kind,
                "severity": worst_severity(findings),
                "count": len(findings),
                "texts": [finding.text for finding in findings[:_MAX_LISTED]],
                "is_open": len(findings) <= _MAX_UNFOLDED,
            }
            for kind, findings in by_kind(report.findings)
        ],
        "plots": _plots(cfg, report, dataset) if dataset else "",
        "images_with_findings": _images_with_findings(report, dataset) if dataset else [],
        "random_images": _random_images(dataset) if dataset else [],
    }


def _plots(cfg: Config, report: SplitReport, dataset: DetectionDataset) -> str:
    """SVG of the boxes per class, the box sizes at the input and the boxes per image; empty without boxes."""
    from matplotlib.figure import Figure

    table = BoxTable.of(dataset)
    if not len(table.rows):
        return ""
    classes = sorted(report.classes, key=lambda row: -row["boxes"])[:_MAX_CLASSES]
    with chart_fonts([row["name"] for row in classes]):
        figure = Figure(figsize=(13, 4.5), layout="constrained")
        per_class, sizes, per_image = figure.subplots(1, 3)
        per_class.barh(range(len(classes)), [row["boxes"] for row in classes][::-1])
        names = [drawable(one_line(printable(row["name"]))) for row in classes]
        per_class.set_yticks(range(len(classes)), names[::-1])
        limit = f" (the {_MAX_CLASSES} most frequent)" if len(classes) == _MAX_CLASSES else ""
        per_class.set_title(f"boxes per class{limit}")
        per_class.tick_params(axis="y", labelsize=6)
        for label in per_class.get_yticklabels():
            label.set_parse_math(False)
        sides = table.sides_at(cfg.testing_size, cfg.resize)
        points = sides[np.random.default_rng(0).permutation(len(sides))[:_MAX_POINTS]]
        sizes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.4)
        if hasattr(cfg, "anchors"):
            anchors = np.array(cfg.anchors)
            sizes.scatter(anchors[:, 0], anchors[:, 1], marker="x", color="tab:red", label="anchors")
            sizes.legend()
        sizes.set(xscale="log", yscale="log", xlabel="width, px", ylabel="height, px")
        sizes.set_title(f"boxes at the input size {cfg.testing_size[0]}")
        counts = np.bincount(table.rows, minlength=len(dataset))
        per_image.hist(counts, bins=min(40, int(counts.max()) + 1))
        per_image.set(xlabel="boxes per image", ylabel="images", title="boxes per image")
        return _svg(figure)


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _images_with_findings(report: SplitReport, dataset: DetectionDataset) -> list[dict[str, str]]:
    """The first images that a finding names."""
    samples = {sample.image_path.relative_to(dataset.image_dir).as_posix(): sample for sample in dataset.samples}
    texts: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.image in samples:
            texts.setdefault(finding.image, []).append(finding.text)
    return [_image(dataset, samples[name], texts[name][:3]) for name in list(texts)[:_MAX_IMAGES]]


def _random_images(dataset: DetectionDataset) -> list[dict[str, str]]:
    order = np.random.default_rng(0).permutation(len(dataset))[:_MAX_IMAGES].tolist()
    return [_image(dataset, dataset.samples[index], []) for index in order]


def _image(dataset: DetectionDataset, sample: Sample, texts: Sequence[str]) -> dict[str, str]:
    """Name, text and data URI of a small image with its boxes; the URI is empty if it cannot be read."""
    name = sample.image_path.relative_to(dataset.image_dir).as_posix()
    try:
        image = dataset.decode(sample)
    except UserError as error:
        return {"name": name, "text": str(error), "source": ""}
    drawn = draw_boxes(image, sample.boxes, sample.labels, dataset.class_names)
    scale = min(1.0, _IMAGE_SIDE / max(drawn.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in drawn.shape[:2])
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else drawn
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    return {"name": name, "text": "; ".join(texts), "source": source}
