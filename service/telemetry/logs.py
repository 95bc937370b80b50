"""Log lines on standard error: text for people, or JSON with one object a line. Never a picture, never a query."""

import json
import logging
import time
from typing import Any

from service.settings import Settings

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "color_message"}


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
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # At DEBUG uvicorn and websockets write every header, query and message, pictures and tokens among them.
    logging.getLogger("uvicorn").setLevel(max(logging.INFO, logging.getLogger().level))
    # uvicorn's own line of an upgrade holds the query, and ours at the end of the session says the rest.
    logging.getLogger("uvicorn.error").addFilter(_without_query)
    # Of a bad body its caller is told; a line for each would let strangers fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def _without_query(record: logging.LogRecord) -> bool:
    """Drop uvicorn's line for each WebSocket upgrade."""
    return '"WebSocket ' not in str(record.msg)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}
