"""Log lines on standard error: text for people, or JSON with one object a line. Never a picture, never a query."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from service.settings import Settings

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "color_message"}

LINES_PER_MINUTE = 1000
"""Of one kind: as many as sessions end when a service stops, and few enough that no flood fills a disk in a day."""

_OF_STRANGERS = frozenset(
    {
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "ASGI callable returned without completing handshake.",  # What uvicorn says of every upgrade that is refused.
    }
)
"""uvicorn's lines that anybody can cause with a connection; `timeconv_refused_total` counts what they tell of."""


class RateFilter(logging.Filter):
    """Lets so many lines a minute through from each place in the code; the next one says how many were left out."""

    def __init__(self, per_minute: int = LINES_PER_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds, monotonic."""
        super().__init__()
        self._per_minute = per_minute
        self._clock = clock
        self._counts: dict[tuple[str, int], tuple[float, int]] = {}
        """When the minute of a place began, and how many lines have come in it. There are no more places than code."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        place, now_s = (record.pathname, record.lineno), self._clock()
        since_s, count = self._counts.get(place, (now_s, 0))
        if now_s - since_s >= 60:
            if count > self._per_minute:
                record.left_out = count - self._per_minute
            since_s, count = now_s, 0
        self._counts[place] = since_s, count + 1
        return count < self._per_minute


class TextFormatter(logging.Formatter):
    """``time level message key=value ...``, the extra fields of the record at the end."""

    def __init__(self) -> None:
        """UTC, to the second."""
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, with the record's extra fields behind it."""
        fields = "".join(f" {key}={value}" for key, value in _extra(record).items())
        return super().formatMessage(record) + fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message and the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(settings: Settings) -> None:
    """Send the logs of this process to standard error, in the form the settings ask for."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    handler.addFilter(RateFilter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # At DEBUG uvicorn and websockets write every header, query and message, pictures and tokens among them.
    logging.getLogger("uvicorn").setLevel(max(logging.INFO, logging.getLogger().level))
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    # Of a bad body its caller is told; a line for each would let strangers fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Drop lines of strangers, and of upgrades: those hold the query, and our line of the session says the rest."""
    message = str(record.msg)
    return message not in _OF_STRANGERS and '"WebSocket ' not in message


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}
