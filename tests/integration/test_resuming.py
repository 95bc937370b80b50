"""A client whose connection broke goes on with its session, and nobody else does."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from service.access import new_key
from service.settings import Settings
from tests.conftest import LiveServer, serving
from timeconv_client import Prediction, connect

Started = dict[str, Any]


@asynccontextmanager
async def session(server: LiveServer, resume: str = "", query: str = "?freshness=every", **headers: str) -> Any:
    """A socket and its session.started."""
    offered = ["timeconv.v1", *([f"timeconv.resume.{resume}"] if resume else [])]
    async with open_websocket(
        server.ws + query,
        subprotocols=[Subprotocol(name) for name in offered],
        additional_headers=headers,
        compression=None,
    ) as socket:
        assert socket.subprotocol == "timeconv.v1"
        yield socket, json.loads(await socket.recv())


async def ask(socket: ClientConnection, *frames: bytes) -> list[dict[str, Any]]:
    """Send frames one after the other, each once the one before is answered; the answers."""
    answers = []
    for frame in frames:
        await socket.send(frame)
        answers.append(json.loads(await socket.recv()))
    return answers


async def close(socket: ClientConnection) -> dict[str, Any]:
    """Close in order; the totals."""
    await socket.send('{"type":"session.close"}')
    totals: dict[str, Any] = json.loads(await socket.recv())["totals"]
    return totals


def run(talk: Callable[[], Awaitable[None]]) -> None:
    """Run a conversation; whatever hangs is a failure."""

    async def main() -> None:
        await asyncio.wait_for(talk(), 60)

    asyncio.run(main())


def test_a_broken_session_goes_on(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Id, seqs, totals and the face's id go on after a break, and so does the window, which came within its gap."""

    async def talk() -> None:
        async with session(live_server) as (socket, started):
            first = await ask(socket, *face_clip[:5])
            socket.transport.abort()
        async with session(live_server, started["resume_token"]) as (socket, again):
            assert (started["resumed"], again["resumed"], again["next_seq"]) == (False, True, 5)
            assert again["session"] == started["session"]
            assert again["resume_token"] != started["resume_token"]
            (answer,) = await ask(socket, face_clip[5])
            assert (answer["type"], answer["seq"]) == ("prediction", 5)
            assert answer["faces"][0]["id"] == first[-1]["faces"][0]["id"]
            assert await close(socket) == {"received": 6, "outcomes": {"window_filling": 4, "prediction": 2}}

    run(talk)


def test_frames_in_flight_are_abandoned_and_counted(live_server: LiveServer, face_jpeg: bytes) -> None:
    """What was not answered when the connection broke is in the totals, each frame once, and nowhere answered."""

    async def talk() -> None:
        async with session(live_server) as (socket, started):
            for _ in range(8):
                await socket.send(face_jpeg)
            await socket.recv()
            socket.transport.abort()
        async with session(live_server, started["resume_token"]) as (socket, again):
            (answer,) = await ask(socket, face_jpeg)
            assert answer["seq"] == again["next_seq"]
            totals = await close(socket)
            assert totals["received"] == again["next_seq"] + 1
            assert sum(totals["outcomes"].values()) == totals["received"]

    run(talk)


def test_one_holder_at_a_time(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Of two that show a token at once the last goes on with the session; one nobody was given leads to a new one."""

    async def talk() -> None:
        async with session(live_server) as (socket, started):
            await ask(socket, *face_clip[:4])
            socket.transport.abort()
        token = started["resume_token"]
        async with session(live_server, token) as (first, one), session(live_server, token) as (second, other):
            assert one["session"] == other["session"] == started["session"]
            assert one["resume_token"] != other["resume_token"]
            assert json.loads(await first.recv())["code"] == "resumed_elsewhere"
            (answer,) = await ask(second, face_clip[4])
            assert (answer["type"], answer["seq"]) == ("prediction", 4)
            async with session(live_server, "guessed") as (third, none):
                assert (none["resumed"], none["next_seq"]) == (False, 0)
                (answer,) = await ask(third, face_clip[4])
                assert (answer["type"], answer["seq"]) == ("frame", 0)

    run(talk)


def test_a_connection_lost_before_it_was_heard(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """The token stays good for who lost the answer to it, again and again; once the client goes on it is used up."""

    async def talk() -> None:
        async with session(live_server) as (socket, started):
            await ask(socket, *face_clip[:3])
            socket.transport.abort()
        token = started["resume_token"]
        for _ in range(3):
            async with session(live_server, token) as (socket, again):
                assert (again["resumed"], again["next_seq"]) == (True, 3)
                socket.transport.abort()
        async with session(live_server, token) as (socket, again):
            assert [answer["seq"] for answer in await ask(socket, *face_clip[3:5])] == [3, 4]
            async with session(live_server, token) as (_, late):
                assert (late["resumed"], late["next_seq"]) == (False, 0)
            assert (await close(socket))["received"] == 5

    run(talk)


NARROW: dict[str, Any] = {"port": 0, "workers": 1, "max_sessions": 1, "max_sessions_per_address": 1}
CALLER = "203.0.113.5"


def test_at_the_limits(face_jpeg: bytes) -> None:
    """Where key, address and service have one place each the token's session keeps it, and nobody else gets in."""
    key, line = new_key("single")
    settings = {**NARROW, "keys": f"{line} sessions=1", "trusted_proxies": "127.0.0.1"}
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": CALLER}

    async def talk() -> None:
        async with session(server, **headers) as (older, started):
            await ask(older, face_jpeg)
            async with session(server, started["resume_token"], **headers) as (newer, again):
                assert (again["resumed"], again["next_seq"]) == (True, 1)
                assert json.loads(await older.recv())["code"] == "resumed_elsewhere"
                await older.wait_closed()
                with pytest.raises(InvalidStatus):
                    async with session(server, **headers):
                        pass
                with pytest.raises(InvalidStatus):
                    async with session(server, "guessed", **headers):
                        pass
                assert (await close(newer))["received"] == 1
        while True:  # Its place is free a moment after its client sees it closed.
            with contextlib.suppress(InvalidStatus):
                async with session(server, **headers) as (_, new):
                    assert new["resumed"] is False
                    return

    with serving(Settings.model_validate(settings)) as server:
        run(talk)


def test_an_upgrade_that_fails(live_server: LiveServer, face_jpeg: bytes) -> None:
    """Who shows the token and then asks for what there is not loses nothing: the session is there for the next try."""

    async def talk() -> None:
        async with session(live_server) as (older, started):
            await ask(older, face_jpeg)
            async with session(live_server, started["resume_token"], "?stride=77") as (_, refused):
                assert refused["code"] == "bad_option"
            async with session(live_server, started["resume_token"]) as (socket, again):
                assert (again["resumed"], again["next_seq"]) == (True, 1)
                assert (await close(socket))["received"] == 1

    run(talk)


def test_what_others_keep(face_jpeg: bytes) -> None:
    """However many sessions another address breaks, what this one has kept can be gone on with."""

    async def talk() -> None:
        mine, other = ({"X-Forwarded-For": address} for address in (CALLER, "198.51.100.1"))
        async with session(server, **mine) as (socket, started):
            await ask(socket, face_jpeg)
            socket.transport.abort()
        async with httpx.AsyncClient(base_url=server.url) as http:
            for ended in range(1, 5):
                while (
                    f'timeconv_sessions_ended_total{{reason="disconnected"}} {ended}.0'
                    not in (await http.get("/metrics")).text
                ):
                    pass
                async with session(server, **other) as (socket, _):
                    socket.transport.abort()
        async with session(server, started["resume_token"], **mine) as (_, again):
            assert (again["resumed"], again["next_seq"]) == (True, 1)

    settings = Settings(port=0, workers=1, max_sessions=2, trusted_proxies="127.0.0.1", resume_grace_ms=60_000)
    with serving(settings) as server:
        run(talk)


def test_another_key(face_jpeg: bytes) -> None:
    """A token that has leaked is of no use with another key: whose it is stays, and goes on after a break."""
    (key, line), (other, other_line) = new_key("whose"), new_key("thief")
    owner, thief = ({"Authorization": f"Bearer {secret}"} for secret in (key, other))

    async def talk() -> None:
        async with session(server, **owner) as (socket, started):
            await ask(socket, face_jpeg)
            async with session(server, started["resume_token"], **thief) as (_, stolen):
                assert (stolen["resumed"], stolen["next_seq"]) == (False, 0)
            (answer,) = await ask(socket, face_jpeg)
            assert answer["seq"] == 1
            socket.transport.abort()
        async with session(server, started["resume_token"], **thief) as (_, stolen):
            assert stolen["resumed"] is False
        async with session(server, started["resume_token"], **owner) as (_, again):
            assert (again["resumed"], again["next_seq"]) == (True, 2)

    with serving(Settings.model_validate({"port": 0, "workers": 1, "keys": f"{line};{other_line}"})) as server:
        run(talk)


def test_the_newest_holder_wins(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Who is still connected with the session is told that it went on elsewhere, and gets none of its answers."""

    async def talk() -> None:
        async with session(live_server) as (older, started):
            await ask(older, *face_clip[:3])
            async with session(live_server, started["resume_token"]) as (newer, again):
                assert (again["resumed"], again["next_seq"]) == (True, 3)
                error = json.loads(await older.recv())
                with pytest.raises(ConnectionClosed) as closed:
                    await older.recv()
                assert closed.value.rcvd is not None
                assert (error["code"], error["close_code"], closed.value.rcvd.code) == ("resumed_elsewhere", 1008, 1008)
                assert [answer["seq"] for answer in await ask(newer, *face_clip[3:6])] == [3, 4, 5]
                assert (await close(newer))["received"] == 6

    run(talk)


def test_a_session_that_was_closed_is_over(live_server: LiveServer, face_jpeg: bytes) -> None:
    """After an end in order the token is worth nothing."""

    async def talk() -> None:
        async with session(live_server) as (socket, started):
            await ask(socket, face_jpeg)
            await close(socket)
        async with session(live_server, started["resume_token"]) as (_, again):
            assert (again["resumed"], again["next_seq"]) == (False, 0)

    run(talk)


def test_the_client_package_resumes(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """`connect` takes a token, and the session's seqs and totals go on."""

    async def talk() -> None:
        async with connect(live_server.url, freshness="every") as first:
            await first.send(face_clip[0])
            await anext(first)
            await first.abort()
        async with connect(live_server.url, freshness="every", resume=first.started.resume_token) as second:
            assert (second.started.resumed, second.next_seq) == (True, 1)
            events = [event async for event in second.stream(face_clip[1:6])]
        assert [event.seq for event in events if isinstance(event, Prediction)] == [4, 5]
        assert events[-1].totals.received == 6  # type: ignore[union-attr] # the last event is session.closed

    run(talk)


def test_kept_for_a_grace_and_never_logged(face_jpeg: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """After the grace the session is gone; its token is in no log line, metric or refusal of a subprotocol."""
    with caplog.at_level(logging.INFO), serving(Settings(port=0, resume_grace_ms=0)) as server:

        async def metrics() -> str:
            async with httpx.AsyncClient(base_url=server.url) as http:
                return (await http.get("/metrics")).text

        async def talk() -> None:
            async with session(server) as (socket, started):
                await ask(socket, face_jpeg)
                socket.transport.abort()
            token = started["resume_token"]
            while 'timeconv_sessions_ended_total{reason="disconnected"} 1.0' not in await metrics():
                pass
            assert "timeconv_sessions_kept 0.0" in await metrics()
            async with session(server, token) as (_, again):
                assert again["resumed"] is False
            offered = [Subprotocol("timeconv.v9"), Subprotocol(f"timeconv.resume.{token}")]
            async with open_websocket(server.ws, subprotocols=offered) as socket:
                error = await socket.recv()
            text = await metrics()
            assert 'timeconv_resumes_total{result="not_found"} 1.0' in text
            assert token not in caplog.text + text + str(error)

        run(talk)
