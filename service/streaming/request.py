"""What ``timeconv stream`` is asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.streaming.canvas import CANVASES
from service.streaming.errors import USAGE, StreamError, require_utf8
from service.streaming.tables import require_parquet
from service.streaming.video import CODECS
from timeconv_client import SessionOptions
from timeconv_client.camera import FALLBACK_FPS, MAX_FPS

DEFAULT_URL = "ws://127.0.0.1:8000"
DEFAULT_QUALITY = 92
_QUALITIES = range(1, 101)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """Arguments of the command.

    Attributes:
        clip: a file OpenCV can read, a URL, the index of a camera, or a pipe of Motion JPEG (``-``: standard input).
        url: address of the service.
        key: API key, if the service asks for one.
        csv: file for a row for each face of each frame.
        jsonl: file for a JSON object for each frame.
        parquet: file for the rows of ``csv``, typed.
        video: file for the clip with boxes, emotions and bars drawn in.
        timeline: file for a picture of the emotions over time.
        summary: file for the summary, as JSON.
        timing: write into the tables too how long each frame took.
        every: as fast as it is answered, dropping nothing; else at the clip's own speed, newest frame first.
        model: ``name`` or ``name@version``; empty for the service's default.
        faces: how many faces to follow, at most.
        smoothing_ms: time constant of the smoothed probabilities.
        region: look for a face, or take the whole picture as the crop.
        stride: the window takes one of so many frames.
        quality: of the JPEGs, 1..100.
        fps: frames per second of a pipe that is streamed with ``every``.
        max_age_ms: frames older than this are not worth an answer; not with ``every``.
        quiet: no line per frame.
    """

    clip: str
    url: str = DEFAULT_URL
    key: str | None = field(default=None, repr=False)
    csv: Path | None = None
    jsonl: Path | None = None
    parquet: Path | None = None
    video: Path | None = None
    timeline: Path | None = None
    summary: Path | None = None
    timing: bool = False
    every: bool = False
    model: str = ""
    faces: int = 1
    smoothing_ms: int = 0
    region: Literal["detect", "whole"] = "detect"
    stride: int = 1
    quality: int = DEFAULT_QUALITY
    fps: float = FALLBACK_FPS
    max_age_ms: int | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check what the service cannot.

        Raises:
            StreamError: a value is out of range, or a file is of an unknown kind, has a name that is not UTF-8, would
                be written twice, or is the clip.
        """
        if self.quality not in _QUALITIES:
            raise StreamError(f"--quality must be 1 to 100, not {self.quality}", exit_code=USAGE)
        if self.every and self.max_age_ms is not None:
            raise StreamError("--max-age-ms drops old frames; --every and --out drop none", exit_code=USAGE)
        if not 0 < self.fps <= MAX_FPS:
            raise StreamError(f"--fps must be over 0, to {MAX_FPS:g}, not {self.fps:g}", exit_code=USAGE)
        _require_suffix("--video", self.video, CODECS)
        _require_suffix("--timeline", self.timeline, CANVASES)
        if self.parquet is not None:
            require_parquet()
        for file in self.files:
            require_utf8(file)
        files = [file.resolve() for file in self.files]
        if len(set(files)) < len(files):
            raise StreamError("Two results cannot go to the same file", exit_code=USAGE)
        if Path(self.clip).resolve() in files:
            raise StreamError(f"{self.clip} is the clip itself; results would overwrite it", exit_code=USAGE)

    @property
    def files(self) -> Iterable[Path]:
        """All files that are to be written."""
        named = (self.csv, self.jsonl, self.parquet, self.video, self.timeline, self.summary)
        return [file for file in named if file is not None]

    @property
    def options(self) -> SessionOptions:
        """Options of the session. Time stamps always: windows, gaps and ages go by the clip's time."""
        options: SessionOptions = {
            "region": self.region,
            "freshness": "every" if self.every else "latest",
            "timestamps": True,
            "stride": self.stride,
            "max_age_ms": self.max_age_ms,
        }
        if self.faces != 1:
            options["faces"] = self.faces
        if self.smoothing_ms:
            options["smoothing_ms"] = self.smoothing_ms
        if self.model:
            options["model"] = self.model
        return options


def _require_suffix(option: str, file: Path | None, known: Mapping[str, object]) -> None:
    if file is not None and file.suffix.lower() not in known:
        raise StreamError(f"{option} takes a file named {', '.join(f'*{suffix}' for suffix in known)}", exit_code=USAGE)
