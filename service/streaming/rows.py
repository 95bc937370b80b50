"""One row a frame: as cells of the CSV file, and as a line on the screen."""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.streaming.errors import USAGE, StreamError
from timeconv_client import FaceResult

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
BOX = ("x", "y", "w", "h")
COLUMNS = (
    "seq",
    "t_s",
    "outcome",
    "face_id",
    "emotion",
    "probability",
    "uncertain",
    *LABELS,
    *BOX,
    "score",
    "total_ms",
)
UNANSWERED = "unanswered"
"""In place of an outcome: the session broke before it came."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a frame. ``face`` is the one the emotion was read from; ``total_ms`` its time in the service."""

    seq: int
    time_us: int
    outcome: str
    face: FaceResult | None = None
    total_ms: float | None = None

    @property
    def probability(self) -> float | None:
        """How probable the face's emotion is, 0..1, as far as there is one."""
        if self.face is None or self.face.smoothed is None or self.face.emotion is None:
            return None
        return self.face.smoothed.get(self.face.emotion)

    def cells(self) -> list[str]:
        """A cell for each of `COLUMNS`: seconds, 0..1, pixels and milliseconds; empty where there is no face."""
        start = [str(self.seq), f"{self.time_us / 1e6:.6f}", self.outcome]
        total_ms = _number(self.total_ms, 3)
        face = self.face
        if face is None:
            return [*start, *[""] * (len(COLUMNS) - len(start) - 1), total_ms]
        return [
            *start,
            str(face.id),
            face.emotion or "",
            _number(self.probability, 6),
            str(int(bool(face.uncertain))),
            *(_number((face.smoothed or {}).get(label), 6) for label in LABELS),
            *(_number(side, 2) for side in face.box),
            _number(face.score, 4),
            total_ms,
        ]

    def line(self) -> str:
        """Time stamp, outcome, emotion and probability, for people."""
        start = f"{self.time_us / 1e6:9.3f} s  {self.outcome:<14}"
        if self.face is None or self.probability is None:
            return start.rstrip()
        doubt = "  uncertain" if self.face.uncertain else ""
        return f"{start}  {self.face.emotion:<8}  {self.probability:.2f}{doubt}"


@contextmanager
def csv_rows(path: Path | None) -> Iterator[Callable[[Iterable[Row]], None]]:
    """What writes rows to the file, if there is to be one.

    Each row goes to the file as a whole line at once, so whatever ends the run, the rows before it are complete.

    Raises:
        StreamError: the file cannot be written.
    """
    if path is None:
        yield lambda _rows: None
        return
    try:
        file = path.open("w", newline="", encoding="utf-8", buffering=1)
    except OSError as error:
        raise StreamError(f"Cannot write {path}: {error.strerror}", exit_code=USAGE) from error
    with file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda rows: writer.writerows(row.cells() for row in rows)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
