"""Results as tables, a row for each face of a frame, and as JSON lines, one for each frame."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TextIO, assert_never

from service.streaming.errors import USAGE, StreamError, cannot_write
from service.streaming.results import SHARE_DIGITS, Face, FrameResult

Cell = int | float | str | bool | None
Kind = Literal["count", "text", "flag", "seconds", "share", "pixels", "ms"]

BEFORE_LABELS: Mapping[str, Kind] = {
    "frame": "count",
    "t_s": "seconds",
    "outcome": "text",
    "face_id": "count",
    "state": "text",
    "emotion": "text",
    "probability": "share",
    "uncertain": "flag",
}
BEHIND_LABELS: Mapping[str, Kind] = {"x": "pixels", "y": "pixels", "w": "pixels", "h": "pixels", "score": "share"}
DELAYS: Mapping[str, Kind] = {"age_ms": "ms", "total_ms": "ms", "round_trip_ms": "ms", "batch_size": "count"}
_DIGITS: Mapping[Kind, int] = {"seconds": 6, "share": SHARE_DIGITS, "pixels": 2, "ms": 3}
_GROUP_ROWS = 8192


def columns(labels: Sequence[str], *, timing: bool) -> dict[str, Kind]:
    """Columns of the tables: seconds, 0..1, pixels and milliseconds. Those of ``timing`` differ from run to run."""
    return {**BEFORE_LABELS, **dict.fromkeys(labels, "share"), **BEHIND_LABELS, **(DELAYS if timing else {})}


def rows(result: FrameResult, labels: Sequence[str], *, timing: bool) -> Iterator[list[Cell]]:
    """A row for each face, in the order of `columns`; one for a frame without a face. None where there is nothing."""
    delays: list[Cell] = []
    if timing:
        delays = [None] * len(DELAYS) if result.delays is None else list(asdict(result.delays).values())
    nobody = [None] * (len(BEFORE_LABELS) - 3 + len(labels) + len(BEHIND_LABELS))
    for face in result.faces or (None,):
        cells = nobody if face is None else _cells(face, labels)
        yield [result.frame.index, result.time_s, result.outcome, *cells, *delays]


def _cells(face: Face, labels: Sequence[str]) -> list[Cell]:
    scores = [face.smoothed.get(label) for label in labels]
    return [face.id, face.state, face.emotion, face.probability, face.uncertain, *scores, *face.box, face.score]


class CsvTable:
    """A CSV file. Each row goes to it as a whole line at once, so whatever ends the run, those before are complete."""

    def __init__(self, path: Path, labels: Sequence[str], *, timing: bool) -> None:
        """Begin the file.

        Raises:
            StreamError: it cannot be written.
        """
        self._labels, self._timing = labels, timing
        self._path = path
        kinds = columns(labels, timing=timing)
        self._formats = [_format(kind) for kind in kinds.values()]
        try:
            self._file = path.open("w", newline="", encoding="utf-8", buffering=1)
        except OSError as error:
            raise cannot_write(path, error, USAGE) from error
        self._writer = csv.writer(self._file, lineterminator="\n")
        try:
            self._write([list(kinds)])
        except StreamError:
            with suppress(StreamError):
                self.close()
            raise

    def write(self, results: Iterable[FrameResult]) -> None:
        """Add the rows of these frames.

        Raises:
            StreamError: the disk is full, or the like.
        """
        self._write(
            ["" if cell is None else form.format(cell) for form, cell in zip(self._formats, row, strict=True)]
            for result in results
            for row in rows(result, self._labels, timing=self._timing)
        )

    def close(self) -> None:
        """End the file."""
        _close(self._file, self._path)

    def _write(self, lines: Iterable[list[str]]) -> None:
        try:
            self._writer.writerows(lines)
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _format(kind: Kind) -> str:
    digits = _DIGITS.get(kind)
    if digits is not None:
        return f"{{:.{digits}f}}"
    return "{:d}" if kind in {"flag", "count"} else "{}"


class JsonLines:
    """A file of JSON objects, one a line for each frame: what its event said, in the order of the clip."""

    def __init__(self, path: Path, *, timing: bool) -> None:
        """Begin the file.

        Raises:
            StreamError: it cannot be written.
        """
        self._path, self._timing = path, timing
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise cannot_write(path, error, USAGE) from error

    def write(self, results: Iterable[FrameResult]) -> None:
        """Add these frames.

        Raises:
            StreamError: the disk is full, or the like.
        """
        try:
            for result in results:
                self._file.write(json.dumps(record(result, timing=self._timing), ensure_ascii=False) + "\n")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """End the file."""
        _close(self._file, self._path)


def record(result: FrameResult, *, timing: bool) -> dict[str, Any]:
    """A frame as an object of the fields that say something."""
    said: dict[str, Any] = {"frame": result.frame.index, "t_s": result.time_s, "outcome": result.outcome}
    if result.detail:
        said["detail"] = dict(result.detail)
    if result.faces:
        said["faces"] = [
            {name: value for name, value in asdict(face).items() if value is not None and value != {}}
            for face in result.faces
        ]
    if timing and result.delays is not None:
        said["delays"] = asdict(result.delays)
    return said


class ParquetTable:
    """The rows of the CSV file, typed, in a Parquet file."""

    def __init__(self, path: Path, labels: Sequence[str], *, timing: bool) -> None:
        """Begin the file.

        Raises:
            StreamError: it cannot be written, or pyarrow is not there.
        """
        require_parquet()
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

        self._labels, self._timing, self._path = labels, timing, path
        kinds = columns(labels, timing=timing)
        self._schema = pa.schema([(name, pa.type_for_alias(_arrow_type(kind))) for name, kind in kinds.items()])
        self._table = pa.Table
        self._waiting: list[list[Cell]] = []
        try:
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        except OSError as error:
            raise cannot_write(path, error, USAGE) from error

    def write(self, results: Iterable[FrameResult]) -> None:
        """Add the rows of these frames, which wait in memory until there are a few thousand.

        Raises:
            StreamError: the disk is full, or the like.
        """
        for result in results:
            self._waiting += rows(result, self._labels, timing=self._timing)
        # Groups of a fixed size, so that the bytes do not depend on how many results came at once.
        while len(self._waiting) >= _GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        """Write what waits, and end the file."""
        try:
            if self._waiting:
                self._write_group()
            self._writer.close()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _write_group(self) -> None:
        group, self._waiting = self._waiting[:_GROUP_ROWS], self._waiting[_GROUP_ROWS:]
        cells = dict(zip(self._schema.names, map(list, zip(*group, strict=True)), strict=True))
        try:
            self._writer.write_table(self._table.from_pydict(cells, schema=self._schema))
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _arrow_type(kind: Kind) -> str:
    match kind:
        case "count":
            return "int64"
        case "text":
            return "string"
        case "flag":
            return "bool"
        case "seconds" | "share" | "pixels" | "ms":
            return "double"
        case _:
            assert_never(kind)


def _close(file: TextIO, path: Path) -> None:
    try:
        file.close()
    except OSError as error:
        raise cannot_write(path, error) from error


def has_parquet() -> bool:
    """Whether pyarrow is installed, which writes Parquet files."""
    return find_spec("pyarrow") is not None


def require_parquet() -> None:
    """Check that Parquet files can be written here.

    Raises:
        StreamError: pyarrow is not installed.
    """
    if not has_parquet():
        raise StreamError("Parquet needs pyarrow: pip install 'pyarrow>=17'", exit_code=USAGE)
