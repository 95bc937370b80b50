"""Several faces, and smoothing, over a real WebSocket with real pictures."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from loadtest.clips import encoded
from loadtest.people import Person, scene, swapping, two_people
from tests.conftest import LiveServer
from tests.integration.test_stream import all_said, said

FRAME_US = 40_000
CLOSE = '{"type":"session.close"}'
SIDE_BY_SIDE = [
    Person(two_people()[0], lambda time_s: (170 + 20 * time_s, 250, 120)),
    Person(two_people()[1], lambda time_s: (480 - 20 * time_s, 240, 150)),
]


def clip_of(people: Sequence[Person], frames: int) -> list[bytes]:
    return encoded(scene(people, index * FRAME_US / 1e6) for index in range(frames))


def stamped(clip: Sequence[bytes], first: int = 0) -> list[bytes]:
    """Frames with their capture times, 25 a second."""
    return [(index * FRAME_US).to_bytes(8, "big") + jpeg for index, jpeg in enumerate(clip, first)]


def answers(server: LiveServer, query: str, *messages: bytes | str) -> list[dict[str, Any]]:
    """What is said of frames, and to texts, in a session that drops nothing."""

    async def run() -> list[dict[str, Any]]:
        query_all = f"?freshness=every&timestamps=1&{query}"
        async with connect(server.ws + query_all, compression=None) as socket:
            await said(socket)
            for message in (*messages, CLOSE):
                await socket.send(message)
            return (await asyncio.wait_for(all_said(socket), 60))[:-1]

    return asyncio.run(run())


def nearest(face: dict[str, Any], people: Sequence[Person], time_s: float) -> tuple[int, float]:
    """Whose face it is, and how far off, in its sides."""
    x, _, w, _ = face["box"]
    places = [person.way(time_s) for person in people]
    apart = [abs(x + w / 2 - place[0]) / place[2] for place in places if place is not None]
    return apart.index(min(apart)), min(apart)


def test_two_faces_side_by_side(live_server: LiveServer) -> None:
    """Both are told in each frame, the largest first, each with its id, its own probabilities and its quality."""
    told = answers(live_server, "faces=2", *stamped(clip_of(SIDE_BY_SIDE, 20)))
    assert [message.get("outcome", message["type"]) for message in told] == ["window_filling"] * 4 + ["prediction"] * 16
    assert [message["seq"] for message in told] == list(range(20))
    for message in told[4:]:
        first, second = message["faces"]
        assert (first["id"], second["id"], first["state"], second["state"]) == (0, 1, "ready", "ready")
        assert first["crop_box"][2] > second["crop_box"][2]
        time_s = message["seq"] * FRAME_US / 1e6
        assert [nearest(face, SIDE_BY_SIDE, time_s)[0] for face in (first, second)] == [1, 0]
        assert first["quality"]["brightness"] < second["quality"]["brightness"]
        for face in (first, second):
            assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_a_face_beside_another_is_judged_as_if_alone(live_server: LiveServer) -> None:
    """What the network sees in a face does not depend on who stands beside it."""
    pair = answers(live_server, "faces=2", *stamped(clip_of(SIDE_BY_SIDE, 12)))[4:]
    for number, place in ((0, 1), (1, 0)):
        alone = answers(live_server, "faces=2", *stamped(clip_of([SIDE_BY_SIDE[number]], 12)))[4:]
        for together, single in zip(pair, alone, strict=True):
            (only,) = single["faces"]
            assert together["faces"][place]["emotion"] == only["emotion"]
            assert together["faces"][place]["probabilities"] == pytest.approx(only["probabilities"], abs=0.15)


def test_the_largest_alone_by_default(live_server: LiveServer) -> None:
    """Who asks for no more gets one face, the largest."""
    told = answers(live_server, "stride=1", *stamped(clip_of(SIDE_BY_SIDE, 8)))[4:]
    assert [len(message["faces"]) for message in told] == [1] * 4
    assert {nearest(message["faces"][0], SIDE_BY_SIDE, 0.2)[0] for message in told} == {1}


def test_two_who_swap_places(live_server: LiveServer) -> None:
    """No id is ever of both, and the one in front keeps theirs all the way."""
    people = swapping(1.6)
    told = answers(live_server, "faces=2", *stamped(clip_of(people, 75)))
    owners: dict[int, set[int]] = {}
    shades: dict[int, list[float]] = {}
    for message in (message for message in told if message["type"] == "prediction"):
        time_s = message["seq"] * FRAME_US / 1e6
        apart = abs(people[0].way(time_s)[0] - people[1].way(time_s)[0])  # type: ignore[index] # always in view
        for face in message["faces"]:
            shades.setdefault(face["id"], []).append(face["quality"]["brightness"])
            who, off = nearest(face, people, time_s)
            if apart > 100 and off < 0.3:
                owners.setdefault(face["id"], set()).add(who)
    assert all(len(who) == 1 for who in owners.values()), owners
    front = next(face["id"] for face in told[4]["faces"] if nearest(face, people, 0.16)[0] == 1)
    assert front in {face["id"] for face in told[-1]["faces"]}
    # One is half as bright as the other: a window of both would show.
    assert all(max(seen) < 1.6 * min(seen) for seen in shades.values()), shades


@pytest.mark.parametrize("faces", [1, 2])
@pytest.mark.parametrize("empty", [0, 2])
def test_another_at_the_same_place(live_server: LiveServer, faces: int, empty: int) -> None:
    """After a cut, or where one leaves and another comes, who is there has an id and a window of their own."""
    at = (320.0, 240.0, 150.0)
    one = Person(two_people()[0], lambda time_s: at if time_s < 0.27 else None)
    other = Person(two_people()[1], lambda time_s: at if time_s > 0.27 + empty * FRAME_US / 1e6 else None)
    told = answers(live_server, f"faces={faces}", *stamped(clip_of([one, other], 14 + empty)))
    told.sort(key=lambda message: message["seq"])  # Other outcomes overtake predictions.
    outcomes = [message.get("outcome", message["type"]) for message in told]
    expected = ["window_filling"] * 4 + ["prediction"] * 3
    assert outcomes == [*expected, *["no_face"] * empty, *expected]
    assert [message["faces"][0]["id"] for message in told if message["type"] == "prediction"] == [0] * 3 + [1] * 3


def test_one_that_comes_later_fills_beside_the_other(live_server: LiveServer) -> None:
    """A frame is a prediction as soon as one face is ready; the others say how many frames they need."""
    late = Person(SIDE_BY_SIDE[0].face, lambda time_s: (170, 250, 120) if time_s >= 0.32 else None)
    told = answers(live_server, "faces=8", *stamped(clip_of([SIDE_BY_SIDE[1], late], 24)))
    states = [[face["state"] for face in message["faces"]] for message in told[4:]]
    beside = [state for state in states if len(state) == 2]
    assert states[:4] == [["ready"]] * 4
    assert beside[:4] == [["ready", "filling"]] * 4
    assert beside[4:] == [["ready", "ready"]] * len(beside[4:])
    filling = next(message for message in told[4:] if len(message["faces"]) == 2)["faces"][1]
    assert set(filling) == {"id", "box", "crop_box", "score", "state", "frames_needed", "quality"}
    assert filling["frames_needed"] == 4


def test_another_number_of_faces_from_now_on(live_server: LiveServer) -> None:
    """An update keeps the id and the window of the face that goes on."""
    frames = stamped(clip_of(SIDE_BY_SIDE, 24))

    def update(faces: int) -> str:
        return json.dumps({"type": "session.update", "options": {"faces": faces}})

    told = answers(live_server, "faces=1", *frames[:8], update(2), *frames[8:16], update(1), *frames[16:])
    predictions = {message["seq"]: message["faces"] for message in told if message["type"] == "prediction"}
    assert sorted(predictions) == list(range(4, 24))
    assert {faces[0]["id"] for faces in predictions.values()} == {0}
    assert [len(predictions[seq]) for seq in (7, 8, 15, 16)] == [1, 2, 2, 1]


def test_whole_pictures_have_one_face(live_server: LiveServer) -> None:
    """With region=whole the picture is the face."""
    told = answers(live_server, "faces=8&region=whole", *stamped(clip_of(SIDE_BY_SIDE, 6)))
    assert [len(message["faces"]) for message in told[4:]] == [1, 1]


def test_ids_go_on_after_a_break(live_server: LiveServer) -> None:
    """A session that is resumed at once has its faces' ids, and their windows."""
    frames = stamped(clip_of(SIDE_BY_SIDE, 16))

    async def run() -> tuple[dict[str, Any], dict[str, Any]]:
        address = f"{live_server.ws}?faces=2&freshness=every&timestamps=1"
        async with connect(address, subprotocols=["timeconv.v1"], compression=None) as socket:  # type: ignore[list-item]
            token = (await said(socket))["resume_token"]
            for frame in frames[:8]:
                await socket.send(frame)
                before = await said(socket)
            socket.transport.abort()
        offered: Any = ["timeconv.v1", f"timeconv.resume.{token}"]
        async with connect(address, subprotocols=offered, compression=None) as socket:
            assert (await said(socket))["resumed"]
            await socket.send(frames[8])
            return before, await said(socket)

    before, after = asyncio.run(run())
    assert (after["seq"], after["type"]) == (8, "prediction")
    assert [face["id"] for face in after["faces"]] == [face["id"] for face in before["faces"]]


def test_each_face_is_counted(live_server: LiveServer) -> None:
    """Emotions and confidence are of every face that was predicted, frames and follows of frames."""
    before = metrics(live_server)
    told = answers(live_server, "faces=2", *stamped(clip_of(SIDE_BY_SIDE, 20)))
    faces = sum(len(message["faces"]) for message in told[4:])
    after = metrics(live_server)

    def grown(name: str) -> float:
        return sum(value - before.get(key, 0.0) for key, value in after.items() if key.startswith(name))

    assert grown("timeconv_emotions_total") == grown("timeconv_confidence_count") == faces == 32
    assert grown('timeconv_frames_total{outcome="prediction"}') == 16
    assert grown("timeconv_follows_total") + grown("timeconv_detections_total") >= 20


def metrics(server: LiveServer) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_smoothing(live_server: LiveServer) -> None:
    """Raw scores stay what they were; smoothed ones follow by the time constant, and name the emotion."""
    frames = stamped(clip_of(SIDE_BY_SIDE, 20))
    raw = answers(live_server, "faces=2", *frames)[4:]
    smooth = answers(live_server, "faces=2&smoothing_ms=500", *frames)[4:]
    share = 1 - 2.718281828 ** (-0.04 / 0.5)
    for place in (0, 1):
        expected = smooth[0]["faces"][place]["probabilities"]
        for before, message in zip(raw, smooth, strict=True):
            face = message["faces"][place]
            assert face["probabilities"] == pytest.approx(before["faces"][place]["probabilities"], abs=1e-3)
            assert face["raw_emotion"] == max(face["probabilities"], key=face["probabilities"].get)
            expected = {
                label: value + share * (face["probabilities"][label] - value) for label, value in expected.items()
            }
            assert face["smoothed"] == pytest.approx(expected, abs=1e-4)
