"""Training curves: CSV files, TensorBoard events, and a chart."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from msdet.errors import UserError
from msdet.files import atomic_path
from msdet.training.loop import Hook, Trainer

log = logging.getLogger(__name__)


class Curves(Hook):
    """Writes each step to `train.csv` and each evaluation to `eval.csv`, both as TensorBoard events too, and draws
    `curves.png` at the end.

    A resumed run removes the rows of steps that it repeats.

    Args:
        folder: output folder.
        score_names: columns of `eval.csv`.
    """

    def __init__(self, folder: Path, score_names: Sequence[str] = ("AP", "AP50")) -> None:
        self.folder = folder
        self.score_names = tuple(score_names)

    def before_train(self, trainer: Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._columns = ["step", "epoch", "lr", "loss", *trainer.loss_names, "gradient_norm", "loss_scale"]
        done = {"step": trainer.step}
        self._train = _open_csv(self.folder / "train.csv", self._columns, done)
        # An evaluation that the checkpoint does not record is repeated.
        scored = {**done, "epoch": trainer.scored_epoch}
        self._eval = _open_csv(self.folder / "eval.csv", ["step", "epoch", *self.score_names], scored)
        self._events = Events(self.folder, trainer.step + 1)

    def after_step(self, trainer: Trainer) -> None:
        r = trainer.result
        values = [trainer.step, trainer.epoch, r.rate, r.loss, *r.losses.values(), r.gradient_norm, r.loss_scale]
        with _named(self.folder / "train.csv"):
            csv.writer(self._train).writerow(values)
        named = zip(self._columns[2:], values[2:], strict=True)
        self._events.write({f"train/{name}": value for name, value in named}, trainer.step)

    def after_epoch(self, trainer: Trainer) -> None:
        self._flush()

    def after_last_step(self, trainer: Trainer) -> None:
        self._flush()

    def _flush(self) -> None:
        with _named(self.folder / "train.csv"):
            self._train.flush()
        self._events.flush()

    def write_evaluation(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Adds the scores of one evaluation, each in 0..1."""
        with _named(self.folder / "eval.csv"):
            csv.writer(self._eval).writerow([trainer.step, trainer.epoch, *[scores[name] for name in self.score_names]])
            self._eval.flush()
        self._events.write({f"eval/{name}": scores[name] for name in self.score_names}, trainer.step)

    def after_train(self, trainer: Trainer) -> None:
        # A failing chart must not hide the error that ended the training.
        try:
            for file in (self._train, self._eval, self._events):
                file.close()
            draw_curves(self.folder)
        except (OSError, UserError) as error:
            log.warning("the curves are not complete: %s", error)


class Events:
    """Writes scalars as TensorBoard events.

    Does not use the writer thread of tensorboardX: that ends when the disk is full, and every further scalar waits for
    it forever.

    Args:
        folder: output folder.
        first_step: TensorBoard hides events of an earlier process from this step on.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        with _named(folder):
            self._writer = EventsWriter(str(folder / "events"))
        self._path = Path(self._writer._file_name)
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=first_step, file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=start))

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Adds the scalars of one step."""
        for name, value in values.items():
            self._write(self._event(step=step, summary=self._scalar(name, value)))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        with _named(self._path):
            self._writer.write_event(event)

    def flush(self) -> None:
        """Flushes the file."""
        with _named(self._path):
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns an OSError (a full disk, say) into a message that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}. Free some disk space and resume with --resume auto"
        ) from error


def _open_csv(path: Path, columns: list[str], done: Mapping[str, int]) -> TextIO:
    """Opens a CSV file for appending, after removing damaged rows and rows that will be repeated: those with a value
    above the limit of its column in `done`. The file is replaced atomically."""
    kept = []
    if path.is_file():
        # A process that was killed may have left an incomplete line, or zeros for blocks that were not written.
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
        rows = list(csv.reader(text.splitlines()))
        limits = [(columns.index(name), limit) for name, limit in done.items()]
        kept = [
            row
            for row in rows[1:]
            if rows[0] == columns
            and len(row) == len(columns)
            and all(row[place].isdecimal() and int(row[place]) <= limit for place, limit in limits)
        ]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *kept])
    with _named(path):
        return path.open("a", newline="", encoding="utf-8")


def draw_curves(folder: Path) -> Path | None:
    """Draws `train.csv` and `eval.csv` of a folder as `curves.png`, and returns its path; None if there is no step.

    Args:
        folder: folder of the two files.
    """
    train = _columns(folder / "train.csv")
    if not train.get("step"):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = _columns(folder / "eval.csv")
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axis, rate_axis, score_axis = figure.subplots(1, 3)
    for name in [n for n in train if n not in ("step", "epoch", "lr", "gradient_norm", "loss_scale")]:
        loss_axis.plot(train["step"], train[name], label=name, linewidth=1 if name == "loss" else 0.7)
    loss_axis.set(xlabel="step", title="loss", yscale="log")
    loss_axis.legend(fontsize="small")
    rate_axis.plot(train["step"], train["lr"])
    rate_axis.set(xlabel="step", title="learning rate")
    for name in [n for n in scored if n not in ("step", "epoch")]:
        score_axis.plot(scored["step"], scored[name], marker=".", label=name)
    score_axis.set(xlabel="step", title="validation", ylim=(0, 1))
    score_axis.legend(fontsize="small")
    path = folder / "curves.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    return path


def _columns(path: Path) -> dict[str, list[float]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    return {name: [float(row[i]) for row in rows if len(row) == len(header)] for i, name in enumerate(header)}
