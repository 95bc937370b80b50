"""All files that a run writes."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from service.streaming.errors import USAGE, cannot_write, require_writable
from service.streaming.lines import printable
from service.streaming.request import StreamRequest
from service.streaming.results import FrameResult
from service.streaming.summary import Summary
from service.streaming.tables import CsvTable, JsonLines, ParquetTable
from service.streaming.timeline import Timeline
from service.streaming.video import AnnotatedVideo

Write = Callable[[list[FrameResult]], None]


class Output(Protocol):
    """A file that grows with the results, which come in the clip's order."""

    def write(self, results: Iterable[FrameResult]) -> None:
        """Add these frames."""

    def close(self) -> None:
        """Finish the file."""


@contextmanager
def open_outputs(request: StreamRequest, labels: Sequence[str], fps: float) -> Iterator[Write]:
    """What writes to the files of a request, but for the summary. It blocks.

    Whatever ends the block, each file is finished with what it has.

    Raises:
        StreamError: one of them cannot be written.
    """
    files: list[Output] = []
    if request.summary is not None:
        require_writable(request.summary)
    with ExitStack() as opened:

        def add(file: Output) -> None:
            opened.callback(file.close)
            files.append(file)

        if request.csv is not None:
            add(CsvTable(request.csv, labels, timing=request.timing))
        if request.jsonl is not None:
            add(JsonLines(request.jsonl, timing=request.timing))
        if request.parquet is not None:
            add(ParquetTable(request.parquet, labels, timing=request.timing))
        if request.timeline is not None:
            add(Timeline(request.timeline, printable(Path(request.clip).name), labels, fps))
        if request.video is not None:
            add(AnnotatedVideo(request.video, fps))

        def write(results: list[FrameResult]) -> None:
            for file in files:
                file.write(results)

        yield write


def write_summary(path: Path, request: StreamRequest, summary: Summary) -> None:
    """Write the summary, as JSON.

    Raises:
        StreamError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps({"clip": request.clip, **summary.as_dict()}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, USAGE) from error
