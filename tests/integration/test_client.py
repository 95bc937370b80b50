"""timeconv_client against a real service."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import LiveServer
from timeconv_client import FrameOutcome, Prediction, SessionClosed, connect
from timeconv_client.iteration import EVENT_BUFFER


def test_a_stream_of_frames_gives_an_event_for_each_and_the_totals(
    live_server: LiveServer, face_clip: list[bytes]
) -> None:
    """Frames go in and every outcome comes out, in order, with the totals last."""

    async def run() -> list[object]:
        async with connect(live_server.url, freshness="every") as session:
            return [event async for event in session.stream(face_clip)]

    *answers, closed = asyncio.run(run())
    assert [type(answer) for answer in answers] == [FrameOutcome] * 4 + [Prediction] * 16
    assert isinstance(closed, SessionClosed)
    assert closed.totals.received == 20


def test_a_stream_may_be_longer_than_what_waits_for_the_iterator(live_server: LiveServer) -> None:
    """Sending and receiving go on side by side, however many frames there are; frames may come asynchronously."""

    async def frames() -> AsyncIterator[bytes]:
        for _ in range(EVENT_BUFFER + 200):
            yield b"no picture" * 60

    async def run() -> int:
        async with connect(live_server.url, freshness="every") as session:
            return len([event async for event in session.stream(frames())])

    assert asyncio.run(asyncio.wait_for(run(), 60)) == EVENT_BUFFER + 201


def test_an_error_of_the_source_reaches_the_reader(live_server: LiveServer, face_jpeg: bytes) -> None:
    """When the frames cannot be read any more their own error is raised, and the session is over."""

    def frames() -> Iterator[bytes]:
        yield face_jpeg
        raise OSError("the camera was unplugged")

    async def run() -> None:
        async with connect(live_server.url, freshness="every") as session:
            async for _ in session.stream(frames()):
                pass

    with pytest.raises(OSError, match="unplugged"):
        asyncio.run(asyncio.wait_for(run(), 60))


def test_leaving_a_stream_early_ends_it_in_order(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Who has seen enough breaks off, and the session is closed all the same."""

    async def run() -> int:
        async with connect(live_server.url, freshness="every") as session:
            async for event in session.stream(face_clip * 50):
                if isinstance(event, Prediction):
                    break
        return len(session.unanswered)

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 0
