"""The conversation of a session over a real WebSocket."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from service.settings import Settings
from tests.conftest import LiveServer, serving


async def said(socket: ClientConnection) -> dict[str, Any]:
    """The next message, as a dictionary."""
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 30))
    return message


async def all_said(socket: ClientConnection) -> list[dict[str, Any]]:
    """Every message until the server closes, with whatever code."""
    messages = []
    with contextlib.suppress(ConnectionClosedError):
        async for message in socket:
            messages.append(json.loads(message))  # noqa: PERF401 - what came before the error counts
    return messages


def conversation(server: LiveServer, talk: Callable[[ClientConnection], Awaitable[Any]], query: str = "") -> Any:
    """What ``talk`` came to, on a socket that has heard session.started."""

    async def run() -> Any:
        async with connect(server.ws + query, subprotocols=["timeconv.v1"], compression=None) as socket:
            return await asyncio.wait_for(talk(socket), 60)

    return asyncio.run(run())


def test_a_session_from_start_to_close(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """A client hears what it gets, sends a clip, closes, and is answered for every frame before the totals."""

    async def talk(socket: ClientConnection) -> tuple[dict[str, Any], list[dict[str, Any]], int | None]:
        started = await said(socket)
        for frame in face_clip:
            await socket.send(frame)
        await socket.send('{"type":"session.close"}')
        return started, await all_said(socket), socket.close_code

    started, messages, code = conversation(live_server, talk, "?freshness=every")
    *answers, closed = messages
    assert (started["type"], started["model"], started["window"], started["max_in_flight"], started["resumed"]) == (
        "session.started",
        Settings().model,
        5,
        8,
        False,
    )
    assert [answer["seq"] for answer in answers] == list(range(len(face_clip)))
    assert [answer.get("outcome", answer["type"]) for answer in answers] == ["window_filling"] * 4 + ["prediction"] * 16
    assert (closed["type"], closed["totals"]) == (
        "session.closed",
        {"received": 20, "outcomes": {"window_filling": 4, "prediction": 16}},
    )
    assert code == 1000


def test_a_prediction_adds_up(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Probabilities sum to one, the winner is the largest, and the stages fit into the total."""

    async def talk(socket: ClientConnection) -> list[dict[str, Any]]:
        for frame in face_clip:
            await socket.send(frame)
        await socket.send('{"type":"session.close"}')
        return await all_said(socket)

    messages = conversation(live_server, talk, "?freshness=every")
    for message in (message for message in messages if message["type"] == "prediction"):
        (face,) = message["faces"]
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert face["emotion"] == max(face["probabilities"], key=face["probabilities"].get)
        timing = message["timing_ms"]
        stages = [timing[stage] for stage in ("wait", "decode", "detect", "crop", "queue", "infer")]
        assert 0 < sum(stages) <= timing["total"] + 0.01
        assert message["age_ms"] == pytest.approx(timing["total"], abs=0.01)


def test_an_update_is_taken_or_refused_whole(live_server: LiveServer, face_jpeg: bytes) -> None:
    """A good update says from which frame it holds; a bad one is an error that changes nothing."""

    async def talk(socket: ClientConnection) -> list[dict[str, Any]]:
        await said(socket)
        await socket.send(face_jpeg)
        heard = [await said(socket)]
        for options in ({"stride": 2}, {"stride": 3, "model": "nobody"}, {"stride": "2"}, {"speed": 1}):
            await socket.send(json.dumps({"type": "session.update", "options": options}))
            heard.append(await said(socket))
        await socket.send(json.dumps({"type": "session.update", "options": {}}))
        return [*heard, await said(socket)]

    _, good, unknown_model, bad_type, unknown_option, unchanged = conversation(live_server, talk)
    assert (good["type"], good["options"]["stride"], good["from_seq"]) == ("session.updated", 2, 1)
    assert [(error["code"], error["close_code"]) for error in (unknown_model, bad_type, unknown_option)] == [
        ("unknown_model", None),
        ("bad_option", None),
        ("bad_option", None),
    ]
    assert unchanged["options"]["stride"] == 2


def test_capture_times_are_echoed(live_server: LiveServer, face_jpeg: bytes) -> None:
    """With timestamps=1 each answer names the capture time of its frame."""

    async def talk(socket: ClientConnection) -> int:
        await said(socket)
        await socket.send((123_456_789).to_bytes(8, "big") + face_jpeg)
        captured: int = (await said(socket))["captured_us"]
        return captured

    assert conversation(live_server, talk, "?timestamps=1") == 123_456_789


@pytest.mark.parametrize(
    "query", ["?stride=9", "?speed=1", "?freshness=every&max_age_ms=5", "?model=nobody", "?faces=9"]
)
def test_bad_options_are_answered_after_the_upgrade(live_server: LiveServer, query: str) -> None:
    """A browser cannot read a refused upgrade, so the error comes first and then the close."""

    async def talk(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
        return await all_said(socket), socket.close_code

    (error,), code = conversation(live_server, talk, query)
    assert (error["type"], error["close_code"], code) == ("error", 1008, 1008)
    assert error["code"] == ("unknown_model" if "model" in query else "bad_option")


def test_the_subprotocol_is_v1_or_absent(live_server: LiveServer) -> None:
    """A client that names no subprotocol speaks v1; one that knows only others is told."""

    async def first_message(*subprotocols: str) -> tuple[str, str | None]:
        from websockets.typing import Subprotocol  # noqa: PLC0415 - a type for one line

        offered = [Subprotocol(name) for name in subprotocols] or None
        async with connect(live_server.ws, subprotocols=offered, compression=None) as socket:
            return (await said(socket))["type"], socket.subprotocol

    assert asyncio.run(first_message()) == ("session.started", None)
    assert asyncio.run(first_message("timeconv.v9", "timeconv.v1")) == ("session.started", "timeconv.v1")
    assert asyncio.run(first_message("timeconv.v9")) == ("error", None)


def refusal(address: str) -> tuple[int, dict[str, Any]]:
    """Status and problem of an upgrade that is refused."""

    async def run() -> tuple[int, dict[str, Any]]:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address):
                pass
        response = refused.value.response
        assert response.headers["content-type"] == "application/problem+json"
        return response.status_code, json.loads(response.body)

    return asyncio.run(run())


def test_another_path_is_not_found(live_server: LiveServer) -> None:
    """An upgrade anywhere else is refused with 404 and where the stream is."""
    status, problem = refusal(live_server.ws + "s")
    assert (status, problem["code"]) == (404, "not_found")


def test_the_place_of_a_client_that_left_is_free_again() -> None:
    """Over the limit an upgrade gets 503 and when to try again; a place given back is taken by the next."""
    with serving(Settings(port=0, max_sessions=1)) as server:

        async def talk(socket: ClientConnection) -> tuple[int, dict[str, Any]]:
            await said(socket)
            return await asyncio.to_thread(refusal, server.ws)

        status, problem = conversation(server, talk)
        assert (status, problem["code"], problem["retryable"], problem["retry_after_ms"]) == (
            503,
            "at_capacity",
            True,
            5000,
        )

        async def next_talk(socket: ClientConnection) -> str:
            kind: str = (await said(socket))["type"]
            return kind

        assert conversation(server, next_talk) == "session.started"


def test_a_client_that_vanishes_leaves_nothing(face_jpeg: bytes) -> None:
    """When connections break off with frames in flight every gauge returns to 0 and each frame has an outcome."""
    with serving(Settings(port=0)) as server:

        async def vanish() -> None:
            async with connect(server.ws + "?freshness=every", compression=None) as socket:
                await said(socket)
                for _ in range(8):
                    await socket.send(face_jpeg)
                socket.transport.abort()

        async def all_vanish() -> None:
            await asyncio.gather(*(vanish() for _ in range(10)))

        asyncio.run(all_vanish())
        with httpx.Client(base_url=server.url) as http:
            while 'timeconv_sessions_ended_total{reason="disconnected"} 10.0' not in (
                text := http.get("/metrics").text
            ):
                pass
        figures = {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line and not line.startswith("#")
        }
    outcomes = sum(value for name, value in figures.items() if name.startswith("timeconv_frames_total{"))
    assert figures["timeconv_frames_received_total"] == outcomes
    assert {
        name: figures[name]
        for name in ("timeconv_frames_in_flight", "timeconv_waiting_windows", 'timeconv_sessions{state="active"}')
    } == {
        "timeconv_frames_in_flight": 0,
        "timeconv_waiting_windows": 0,
        'timeconv_sessions{state="active"}': 0,
    }


def test_silence_ends_a_session() -> None:
    """A session without a frame or an answer for too long is told so and closed."""
    with serving(Settings(port=0, idle_timeout_ms=1000)) as server:

        async def talk(socket: ClientConnection) -> tuple[str, int | None]:
            await said(socket)
            (error,) = await all_said(socket)
            return error["code"], socket.close_code

        assert conversation(server, talk) == ("idle_timeout", 1008)
