"""Closed-loop clients."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from loadtest.bench.clients import BodyClient, Plan, playing
from loadtest.errors import CannotGenerate
from tests.conftest import LiveServer


def test_every_frame_that_is_sent_is_answered(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Each client warms up, then plays for as long as it is told, and nothing is owed at the end."""
    plan = Plan(f"{live_server.ws}?freshness=every&timestamps=1", face_clip, clients=2, warm_up=7, stamped=True)
    with playing(plan) as clients:
        warm_up, answers = clients.warm_up, clients.play(0.1)
    assert [len(each) for each in warm_up] == [7, 7]
    assert all(b'"window_filling"' in each[3] for each in warm_up)
    assert all(each[4].startswith(b'{"type":"prediction","seq":4,') for each in warm_up)
    assert all(b'"seq":7,' in each[0] for each in answers)


@pytest.mark.parametrize(("query", "said"), [("?region=moon", "region"), ("/nowhere", "404")])
def test_a_session_that_is_refused_is_no_measurement(live_server: LiveServer, query: str, said: str) -> None:
    """The service's reason is the error's."""
    with pytest.raises(CannotGenerate, match=said), playing(Plan(live_server.ws + query, [b"frame"], 1, warm_up=1)):
        pass


async def post(answer: Callable[[bytes], list[bytes]]) -> list[bytes]:
    """What a client that posts three bodies is answered; ``answer``: the chunks that answer a request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # The client is gone.
            while chunks := answer(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(3)):
                for chunk in chunks:
                    writer.write(chunk)
                    await writer.drain()
        writer.close()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        client = BodyClient(Plan(f"http://{host}:{port}/inference", [b"one", b"two"], 1, warm_up=3))
        await asyncio.get_running_loop().create_connection(lambda: client, host, port)
        try:
            await client.play(client.has_warmed_up)
            return client.take()
        finally:
            client.close()
            await ended.wait()


def bounded(test: Awaitable[list[bytes]]) -> list[bytes]:
    """Run it to its end; whatever hangs is a failure."""

    async def within() -> list[bytes]:
        async with asyncio.timeout(10):
            return await test

    return asyncio.run(within())


def test_bodies_are_posted_one_after_the_other() -> None:
    """An answer may come in pieces."""

    def echo(request: bytes) -> list[bytes]:
        assert request.startswith(b"POST /inference HTTP/1.1\r\n")
        assert b"Content-Length: 3\r\n" in request
        return [b"HTTP/1.1 200 OK\r\ncontent-", b"length: 3\r\n\r\n", request[-3:]]

    assert bounded(post(echo)) == [b"one", b"two", b"one"]


def test_an_answer_that_is_an_error_is_no_measurement() -> None:
    """Its status and body are told."""
    with pytest.raises(CannotGenerate, match="503 Full: too many"):
        bounded(post(lambda _: [b"HTTP/1.1 503 Full\r\nContent-Length: 8\r\n\r\ntoo many"]))


def test_a_connection_that_ends_is_no_measurement() -> None:
    """Nobody waits for its answer."""
    with pytest.raises(CannotGenerate, match="ended"):
        bounded(post(lambda _: []))
