"""Limits of a session, over a real WebSocket."""

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from service.access import new_key
from service.settings import Settings
from tests.conftest import LiveServer, serving
from timeconv_client import connect as open_session


def outcomes(server: LiveServer, frames: int, jpeg: bytes, key: str | None = None, **options: Any) -> dict[str, int]:
    """What became of so many frames, sent as fast as they are taken, whatever the credit."""

    async def run() -> dict[str, int]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        query = "&".join(f"{name}={value}" for name, value in options.items())
        async with connect(f"{server.ws}?{query}", additional_headers=headers, compression=None) as socket:
            for _ in range(frames):
                await socket.send(jpeg)
            await socket.send('{"type":"session.close"}')
            async for text in socket:
                last = json.loads(text)
            return dict(last["totals"]["outcomes"])

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_frames_over_the_rate(empty_jpeg: bytes) -> None:
    """In `latest` what is over the rate is `rate_limited`; in `every` it is read later, and all of it answered."""
    with serving(Settings(port=0, max_frames_per_s=20, workers=1)) as server:
        found = outcomes(server, 60, empty_jpeg)
        assert sum(found.values()) == 60
        assert found["rate_limited"] > 0
        start_s = time.monotonic()
        assert outcomes(server, 30, empty_jpeg, freshness="every") == {"no_face": 30}
        assert time.monotonic() - start_s >= 9 / 20  # 20 at once, the 30th not before it is due.


def test_the_rate_of_a_key(empty_jpeg: bytes) -> None:
    """A key's own rate is its sessions', in the place of the service's."""
    (key, line), (free, free_line) = new_key("slow"), new_key("free")
    keys = f"{line} frames_per_s=1;{free_line}"
    with serving(Settings.model_validate({"port": 0, "keys": keys, "workers": 1})) as server:
        assert outcomes(server, 10, empty_jpeg, key)["rate_limited"] >= 8
        assert "rate_limited" not in outcomes(server, 10, empty_jpeg, free)


def test_text_messages_over_the_rate() -> None:
    """Text messages over the rate are read later: all are answered, in order, none faster than allowed."""

    async def run(server: LiveServer) -> float:
        async with connect(server.ws, compression=None) as socket:
            await socket.recv()
            start_s = time.monotonic()
            for stride in (1, 2, 3, 4, 5, 1, 2, 3):
                await socket.send(json.dumps({"type": "session.update", "options": {"stride": stride}}))
            answers = [json.loads(await socket.recv()) for _ in range(8)]
            assert [answer["options"]["stride"] for answer in answers] == [1, 2, 3, 4, 5, 1, 2, 3]
            return time.monotonic() - start_s

    with serving(Settings(port=0, max_texts_per_s=5, workers=1)) as server:
        assert asyncio.run(asyncio.wait_for(run(server), 60)) >= 2 / 5


def test_the_longest_session() -> None:
    """A session that lasts too long ends with the reason, and another may be opened at once."""

    async def run(server: LiveServer) -> None:
        async with connect(server.ws) as socket:
            await socket.recv()
            error = json.loads(await asyncio.wait_for(socket.recv(), 30))
            assert (error["code"], error["retryable"]) == ("session_too_long", True)
            with pytest.raises(ConnectionClosedError) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        async with open_session(server.url):
            pass

    with serving(Settings(port=0, max_session_ms=1000, workers=1)) as server:
        asyncio.run(run(server))
