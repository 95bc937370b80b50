"""What ``timeconv stream`` is asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.streaming.errors import USAGE, StreamError
from timeconv_client import SessionOptions

DEFAULT_URL = "ws://127.0.0.1:8000"
DEFAULT_QUALITY = 92
_QUALITIES = range(1, 101)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """Arguments of the command.

    Attributes:
        clip: a file OpenCV can read, a URL, or the index of a camera.
        url: address of the service.
        key: API key, if the service asks for one.
        csv: file for one row a frame.
        every: as fast as it is answered, dropping nothing; else at the clip's own speed, newest frame first.
        model: ``name`` or ``name@version``; empty for the service's default.
        region: look for a face, or take the whole picture as the crop.
        stride: the window takes one of so many frames.
        quality: of the JPEGs, 1..100.
        max_age_ms: frames older than this are not worth an answer; not with ``every``.
        quiet: no line per frame.
    """

    clip: str
    url: str = DEFAULT_URL
    key: str | None = field(default=None, repr=False)
    csv: Path | None = None
    every: bool = False
    model: str = ""
    region: Literal["detect", "whole"] = "detect"
    stride: int = 1
    quality: int = DEFAULT_QUALITY
    max_age_ms: int | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check what the service cannot.

        Raises:
            StreamError: the quality is out of range.
        """
        if self.quality not in _QUALITIES:
            raise StreamError(f"--quality must be 1 to 100, not {self.quality}", exit_code=USAGE)

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
        return {**options, "model": self.model} if self.model else options
