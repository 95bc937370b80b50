"""What is fuzzed: each target takes any bytes, and raises only where the service breaks a promise."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from urllib.parse import parse_qsl

import numpy as np
from starlette.requests import Request

from service import protocol
from service.api.predict import _frames
from service.errors import BadBody, BadImage, BadMessage, BadOption, ImageTooLarge, TimeConvError, TooLarge
from service.protocol import Options, SessionUpdate
from service.vision.decode import decode_gray, read_header

MAX_BYTES = 20_000
MAX_PIXELS = 40_000
MOST_SAID = 10_000
"""Bytes of an error: what is sent must not come back at length."""

_REASONS = {"empty", "not_jpeg", "corrupt", "unsupported", "too_large", "timestamp_missing"}
_SHRINKS = (1, 2, 4, 8)
_CONTENT_TYPES = (b"multipart/form-data; boundary=b", b"application/json", b"image/jpeg", b"multipart/form-data", b"")
_runner = asyncio.Runner()
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # As the service has it.


def header(content: bytes) -> None:
    """A header gives a size and an orientation, or the frame is a bad image with a reason that is known."""
    try:
        found = read_header(content)
    except BadImage as error:
        _check_refusal(error)
    else:
        assert 0 < found.width < 65_536
        assert 0 < found.height < 65_536
        assert 1 <= found.orientation <= 8


def decoder(content: bytes) -> None:
    """A frame is a gray picture of the size of its header, within the limits, or a bad image."""
    shrink = _SHRINKS[content[-1] % 4] if content else 1
    try:
        gray = decode_gray(content, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS, shrink=shrink)
    except BadImage as error:
        _check_refusal(error)
        return
    found = read_header(content)
    assert gray.dtype == np.uint8
    assert found.width * found.height <= MAX_PIXELS
    assert sorted(gray.shape) == sorted((-(-found.height // shrink), -(-found.width // shrink)))


def message(content: bytes) -> None:
    """A text is a message or a bad one, and an update makes good options or bad ones; every answer can be sent."""
    text = content.decode(errors="replace")
    try:
        said = protocol.parse_text(text)
        if isinstance(said, SessionUpdate):
            _check_options(protocol.updated(Options(), said.options))
    except (BadMessage, BadOption) as error:
        _check_refusal(error)


def query(content: bytes) -> None:
    """A query is options in their bounds, or a bad one."""
    pairs = parse_qsl(content.decode("latin-1"), keep_blank_values=True)
    for parse in (protocol.parse_query, protocol.parse_predict_query):
        try:
            options = parse(pairs)
        except BadOption as error:
            _check_refusal(error)
        else:
            if isinstance(options, Options):
                _check_options(options)


def frame(content: bytes) -> None:
    """A binary message is a capture time and the rest, or too short for one."""
    try:
        captured_us, jpeg = protocol.split_timestamp(content)
    except BadImage as error:
        _check_refusal(error)
    else:
        assert captured_us.to_bytes(8, "big") + jpeg == content


def body(content: bytes) -> None:
    """A body is one picture or five, or refused; its first byte says what it claims to be and how it is cut up."""
    first, rest = content[:1] or b"\0", content[1:]
    kind, pieces = _CONTENT_TYPES[first[0] % len(_CONTENT_TYPES)], 1 + first[0] // 64
    try:
        frames = _runner.run(_frames(_request(kind, rest, pieces), MAX_BYTES // 10))
    except (BadBody, TooLarge) as error:
        _check_refusal(error)
    else:
        assert len(frames) in (1, 5)
        assert all(isinstance(picture, bytes) for picture in frames)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (header, decoder, message, query, frame, body)
}


def _check_refusal(error: TimeConvError) -> None:
    assert len(protocol.encode(protocol.error_message(error, closing=False))) <= MOST_SAID
    if isinstance(error, BadImage):
        assert error.reason in _REASONS
        assert isinstance(error, ImageTooLarge) == (error.reason == "too_large")


def _check_options(options: Options) -> None:
    assert 1 <= options.stride <= 5
    assert 1 <= options.faces <= 8
    assert 0 <= options.smoothing_ms <= 5000
    assert options.max_age_ms is None or options.freshness == "latest"
    protocol.encode(protocol.SessionUpdated(options=options, from_seq=0, max_in_flight=2))


def _request(kind: bytes, content: bytes, pieces: int) -> Request:
    edges = [len(content) * piece // pieces for piece in range(pieces + 1)]
    messages = [{"type": "http.request", "body": content[a:b], "more_body": True} for a, b in pairwise(edges)]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Mapping[str, object]:
        return messages.pop(0)

    headers = [(b"content-type", kind)] if kind else []
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)
