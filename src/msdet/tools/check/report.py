"""What a check found, as text, as JSON, and as one page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from msdet import files
from msdet.data.dataset import DetectionDataset, Sample
from msdet.data.validation.findings import SEVERITIES, Finding, SplitReport, by_kind
from msdet.data.validation.statistics import BoxTable
from msdet.errors import UserError
from msdet.files import atomic_path
from msdet.ops.draw import draw_boxes
from msdet.ops.fonts import chart_fonts, drawable
from msdet.text import one_line, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from msdet.config import Config
    from msdet.tools.check.checked import Checked

_SHOWN_TEXT, _SHOWN_HTML = 5, 200
_PICTURES, _PICTURE_SIDE, _CLASSES_SHOWN = 16, 400, 40


def as_text(reports: Sequence[SplitReport], seconds: float) -> str:
    """Every kind of finding with its number and first examples."""
    lines = []
    for report in reports:
        lines.append(f"{report.split}: {report.source}" + (f" ({report.format})" if report.format else ""))
        lines += [f"  {name}: {_shown(value)}" for name, value in report.numbers.items()]
        for kind, findings in by_kind(report.findings):
            lines.append(f"  [{_worst(findings)}] {kind}: {len(findings)}")
            lines += [f"    {finding.text}" for finding in findings[:_SHOWN_TEXT]]
            if len(findings) > _SHOWN_TEXT:
                lines.append(f"    ... and {len(findings) - _SHOWN_TEXT} more (--json lists all)")
    totals = ", ".join(f"{sum(report.count(name) for report in reports)} {name}s" for name in SEVERITIES)
    lines.append(f"{totals}; {seconds:.1f} s")
    return "\n".join(lines) + "\n"


def _worst(findings: Sequence[Finding]) -> str:
    return min((finding.severity for finding in findings), key=SEVERITIES.index)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(
            f"{item[0]:g} x {item[1]:g}" if isinstance(item, list | tuple) else f"{item:g}" for item in value
        )
    return str(value)


def write_json(reports: Sequence[SplitReport], path: Path) -> None:
    """Writes all findings and numbers."""
    files.write_json(path, {"splits": [report.to_dict() for report in reports]})


def write_html(cfg: Config, checked: Sequence[Checked], path: Path) -> None:
    """Writes the page: findings, tables, plots and pictures, all inside one file."""
    parts = [part for one in checked for part in _split_parts(cfg, one)]
    title = f"Check of {html.escape(str(cfg.data_dir))}"
    page = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f"<p>Model {html.escape(cfg.model)}, input {cfg.testing_size[0]} px.</p>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with atomic_path(path) as beside:
        beside.write_text(printable(page), encoding="utf-8")


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}"
    ".error{color:#b00020}.warning{color:#9a6700}.note{color:#555}li{overflow-wrap:anywhere}"
    "figure{display:inline-block;margin:.4em;vertical-align:top;max-width:25em}figure img{max-width:100%}"
    "figcaption{font-size:85%;overflow-wrap:anywhere}svg{max-width:100%;height:auto}"
)


def _split_parts(cfg: Config, checked: Checked) -> Iterator[str]:
    report = checked.report
    counts = ", ".join(f"<span class='{name}'>{report.count(name)} {name}s</span>" for name in SEVERITIES)
    yield f"<h2>{report.split}: {html.escape(report.source)} ({html.escape(report.format)})</h2><p>{counts}</p>"
    rows = "".join(
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(_shown(v))}</td></tr>" for k, v in report.numbers.items()
    )
    yield f"<table>{rows}</table>"
    for kind, findings in by_kind(report.findings):
        items = "".join(f"<li>{html.escape(finding.text)}</li>" for finding in findings[:_SHOWN_HTML])
        more = f"<p>... and {len(findings) - _SHOWN_HTML} more</p>" if len(findings) > _SHOWN_HTML else ""
        name = f"<span class='{_worst(findings)}'>{_worst(findings)}</span>: {html.escape(kind)} ({len(findings)})"
        is_open = " open" if len(findings) <= 20 else ""
        yield f"<details{is_open}><summary>{name}</summary><ul>{items}</ul>{more}</details>"
    if checked.dataset is not None and len(checked.dataset):
        yield from _plots(cfg, report, checked.dataset)
        yield from _pictures(report, checked.dataset)


def _plots(cfg: Config, report: SplitReport, dataset: DetectionDataset) -> Iterator[str]:
    """Boxes of each class, sizes of boxes at the input, boxes of an image."""
    from matplotlib.figure import Figure

    table = BoxTable.of(dataset)
    if not len(table.rows):
        return
    classes = sorted(report.classes, key=lambda row: -row["boxes"])[:_CLASSES_SHOWN]
    with chart_fonts([row["name"] for row in classes]):
        figure = Figure(figsize=(13, 4.5), layout="constrained")
        first, second, third = figure.subplots(1, 3)
        first.barh(range(len(classes)), [row["boxes"] for row in classes][::-1])
        first.set_yticks(range(len(classes)), [drawable(one_line(printable(row["name"]))) for row in classes][::-1])
        first.set_title(
            "boxes of a class" + (f" (the {_CLASSES_SHOWN} most frequent)" if len(classes) == _CLASSES_SHOWN else "")
        )
        first.tick_params(axis="y", labelsize=6)
        for label in first.get_yticklabels():
            label.set_parse_math(False)
        sides = table.sides_at(cfg.testing_size, cfg.resize)
        some = sides[np.random.default_rng(0).permutation(len(sides))[:5000]]
        second.scatter(some[:, 0], some[:, 1], s=4, alpha=0.4)
        if hasattr(cfg, "anchors"):
            anchors = np.array(cfg.anchors)
            second.scatter(anchors[:, 0], anchors[:, 1], marker="x", color="tab:red", label="anchors")
            second.legend()
        second.set(xscale="log", yscale="log", xlabel="width, px", ylabel="height, px")
        second.set_title(f"boxes at the input size {cfg.testing_size[0]}")
        per_image = np.bincount(table.rows, minlength=len(dataset))
        third.hist(per_image, bins=min(40, int(per_image.max()) + 1))
        third.set(xlabel="boxes of an image", ylabel="images", title="boxes of an image")
        drawn = _svg(figure)
    yield f"<h3>Numbers</h3>{drawn}"


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _pictures(report: SplitReport, dataset: DetectionDataset) -> Iterator[str]:
    """Images with something wrong about them first, then some of all."""
    named = {sample.image_path.relative_to(dataset.image_dir).as_posix(): sample for sample in dataset.samples}
    texts: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.image in named:
            texts.setdefault(finding.image, []).append(finding.text)
    troubled = list(texts)[:_PICTURES]
    if troubled:
        yield "<h3>Images with findings (boxes as they are after cleaning)</h3>"
        yield from (_picture(dataset, named[name], "; ".join(texts[name][:3])) for name in troubled)
    order = np.random.default_rng(0).permutation(len(dataset))[:_PICTURES].tolist()
    yield "<h3>Some images</h3>"
    yield from (_picture(dataset, dataset.samples[index], "") for index in order)


def _picture(dataset: DetectionDataset, sample: Sample, text: str) -> str:
    name = sample.image_path.relative_to(dataset.image_dir).as_posix()
    caption = html.escape(f"{name}: {text}" if text else name, quote=True)
    try:
        image = dataset.decode(sample)
    except UserError as error:
        return f"<figure><figcaption>{html.escape(str(error))}</figcaption></figure>"
    drawn = draw_boxes(image, sample.boxes, sample.labels, dataset.class_names)
    scale = min(1.0, _PICTURE_SIDE / max(drawn.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in drawn.shape[:2])
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else drawn
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    source = base64.b64encode(data.tobytes()).decode()
    picture = f"<img alt='{caption}' src='data:image/jpeg;base64,{source}'>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
