import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.telemetry.logs import JsonFormatter, RateFilter, TextFormatter
from tests.fakes import ManualClock

REPOSITORY = Path(__file__).parents[2]


def record(message: str, *args: object, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    """A record made at one second past the epoch, with extra fields."""
    made = logging.LogRecord("service.test", level, __file__, 1, message, args, None)
    made.created, made.msecs = 1.25, 250.0
    vars(made).update(extra)
    return made


def with_error(made: logging.LogRecord) -> logging.LogRecord:
    """The record with the traceback of a division by zero."""
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        made.exc_info = sys.exc_info()
    return made


class TestText:
    def test_line(self) -> None:
        """A line is time in UTC, level, message, and the record's own fields."""
        line = TextFormatter().format(record("Loaded %s", "m@1", session="abc", received=3))
        assert line == "1970-01-01T00:00:01Z INFO    Loaded m@1 session=abc received=3"

    def test_traceback(self) -> None:
        """An exception follows its line, which keeps its fields."""
        lines = TextFormatter().format(with_error(record("Failed", worker="worker-0"))).splitlines()
        assert lines[0] == "1970-01-01T00:00:01Z INFO    Failed worker=worker-0"
        assert lines[-1] == "ZeroDivisionError: division by zero"


class TestJson:
    def test_object(self) -> None:
        """A line is one object: time in UTC to the millisecond, level, logger, message and the record's own fields."""
        made = record("Loaded %s", "m@1", level=logging.WARNING, session="abc", received=3)
        assert json.loads(JsonFormatter().format(made)) == {
            "time": "1970-01-01T00:00:01.250Z",
            "level": "warning",
            "logger": "service.test",
            "message": "Loaded m@1",
            "session": "abc",
            "received": 3,
        }

    def test_one_line(self) -> None:
        """Line breaks in a message, a field or a traceback do not break the line."""
        line = JsonFormatter().format(with_error(record("a\nb", field="c\r\nd")))
        assert len(line.splitlines()) == 1
        decoded = json.loads(line)
        assert (decoded["message"], decoded["field"]) == ("a\nb", "c\r\nd")
        assert decoded["exception"].endswith("ZeroDivisionError: division by zero")

    @pytest.mark.parametrize("value", [Path("x"), {1, 2}, b"bytes", ValueError("v")])
    def test_any_field(self, value: object) -> None:
        """A field that JSON does not know is written as its text."""
        assert json.loads(JsonFormatter().format(record("m", field=value)))["field"] == str(value)


def logged(log_format: str, level: str, code: str) -> list[str]:
    """What a process of its own writes to standard error with logging configured."""
    program = f"""
import logging, warnings
from service.settings import Settings
from service.telemetry.logs import configure_logging
configure_logging(Settings(log_format={log_format!r}, log_level={level!r}))
{code}
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True)  # noqa: S603 - our own
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_level_and_other_loggers() -> None:
    """Lines of every logger from the level on go to standard error once, and Python's warnings with them."""
    code = """
logging.getLogger("service.x").info("mine", extra={"n": 1})
logging.getLogger("uvicorn.error").info("theirs")
logging.getLogger("service.x").debug("too low")
warnings.warn("careful")
"""
    lines = [json.loads(line) for line in logged("json", "info", code)]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("service.x", "info"),
        ("uvicorn.error", "info"),
        ("py.warnings", "warning"),
    ]
    assert (lines[0]["message"], lines[0]["n"]) == ("mine", 1)


def test_no_query() -> None:
    """Uvicorn's lines of an upgrade, which hold its query, are left out; its other lines are not."""
    code = """
log = logging.getLogger("uvicorn.error")
log.info('%s - "WebSocket %s" [accepted]', ("1.2.3.4", 5), "/v1/stream?model=private")
log.info('%s - "WebSocket %s" %d', ("1.2.3.4", 5), "/v1/stream?model=private", 503)
log.info('%s - "WebSocket %s" 403', ("1.2.3.4", 5), "/v1/stream?model=private")
log.info("Shutting down")
"""
    (line,) = logged("text", "debug", code)
    assert line.endswith("INFO    Shutting down")


@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_others_log_of_a_connection(level: str) -> None:
    """At every level the lines in which uvicorn and websockets show headers, queries and messages are left out."""
    code = """
for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
    logging.getLogger(name).debug("> Authorization: Bearer secret")
logging.getLogger("service.x").debug("ours")
"""
    lines = logged("text", level, code)
    assert [line.rpartition(" ")[2] for line in lines] == ["ours"] * (level == "debug")


def test_a_bad_body_is_no_line() -> None:
    """What the parser of multipart bodies warns of, any caller can cause as often as he likes: it is not logged."""
    code = """
from python_multipart.multipart import MultipartParser
MultipartParser(b"b").write(b"--b\\r\\n\\xff: x")
"""
    assert logged("text", "debug", f"try:{code.replace(chr(10), chr(10) + ' ')}\nexcept ValueError:\n pass") == []


def test_a_kind_of_line_has_so_many_a_minute() -> None:
    """Of a flood from one place the rest is left out, the next line from there says how much; others are written."""
    clock = ManualClock()
    keeps = RateFilter(3, clock).filter
    assert [keeps(record(f"flood {number}")) for number in range(8)] == [True] * 3 + [False] * 5
    other = record("elsewhere")
    other.lineno = 2
    assert keeps(other)
    clock.advance(59.9)
    assert not keeps(record("flood"))
    clock.advance(0.1)
    afterwards = record("flood")
    assert keeps(afterwards)
    assert afterwards.left_out == 6  # type: ignore[attr-defined]
    assert TextFormatter().format(afterwards).endswith("flood left_out=6")
    clock.advance(60)
    quiet = record("flood")
    assert keeps(quiet)
    assert not hasattr(quiet, "left_out")


def test_the_rate_holds_for_every_logger() -> None:
    """What is configured writes no more than so many lines from one place, whoever logs them."""
    code = """
for number in range(3000):
    logging.getLogger(f"any.{number % 7}").error("flood")
"""
    assert len(logged("text", "info", code)) == 1000


def test_what_strangers_cause_is_no_line() -> None:
    """Requests that are none, upgrades that are refused or unknown: metrics count them, the log is silent."""
    code = """
log = logging.getLogger("uvicorn.error")
log.warning("Invalid HTTP request received.")
log.warning("Unsupported upgrade request.")
log.error("ASGI callable returned without completing handshake.")
log.error("Exception in ASGI application")
"""
    (line,) = logged("text", "info", code)
    assert line.endswith("Exception in ASGI application")
