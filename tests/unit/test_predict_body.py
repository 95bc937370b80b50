"""service.api.predict: the body of a call, before any picture is looked at."""

import asyncio
from collections.abc import Mapping

import pytest
from starlette.requests import Request

from service.api.predict import _frames
from service.errors import BadBody

PICTURES = [b"\xff\xd8picture %d\r\n-\xff\xd9" % index for index in range(5)]
WHOLE = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="frames"; filename="x"\r\n\r\n' + picture + b"\r\n"
    for picture in PICTURES
)
CLOSING = b"--b--"


def frames(body: bytes, pieces: int = 1) -> list[bytes]:
    """The pictures of a multipart body that arrives in so many pieces."""
    step = max(1, -(-len(body) // pieces))
    came = [
        {"type": "http.request", "body": body[at : at + step], "more_body": True} for at in range(0, len(body), step)
    ]
    came.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Mapping[str, object]:
        return came.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    return asyncio.run(
        _frames(Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive), 1000)
    )


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"\r\nan epilogue"])
def test_a_whole_body(pieces: int, after: bytes) -> None:
    """Five pictures, byte for byte, however they arrive and whatever follows the closing boundary."""
    assert frames(WHOLE + CLOSING + after, pieces) == PICTURES


def test_a_body_that_is_cut_off() -> None:
    """Wherever it ends before its closing boundary does, it is refused: one of two pictures is not one for all."""
    body = WHOLE + CLOSING
    for end in range(len(body)):
        with pytest.raises(BadBody, match="Not a whole multipart body"):
            frames(body[:end])
