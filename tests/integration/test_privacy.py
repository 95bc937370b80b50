"""No session gets anything of another's frames.

Every frame is marked with its session and its number, in squares that survive JPEG, and in the place of networks there
is a reader of these marks. So each answer names the frames it was made of, and is held against the frame it answers.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from random import Random

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service import engine
from service.inference.batch import Runner
from service.inference.workers import WorkerPool
from service.settings import Settings
from service.vision.window import FRAMES
from tests.conftest import LiveServer, jpeg, serving
from timeconv_client import Prediction, Session, SessionOptions, TimeConvClientError, connect

SQUARES = 6
SIDE = 96
OWNER_BITS, NUMBER_BITS = 14, 16
CLIENTS, LIVES, FRAMES_A_LIFE, CALLS = 24, 5, 25, 10
SCALE = 2**OWNER_BITS
"""Probabilities have six digits, so one can tell numbers up to this apart."""


def marked(owner: int, number: int) -> bytes:
    """A JPEG that shows whose it is and its number: a square a bit, and one that is always bright, one always dark."""
    bits = f"{owner:0{OWNER_BITS}b}{number:0{NUMBER_BITS}b}10".ljust(SQUARES**2, "0")
    squares = np.array([255 * int(bit) for bit in bits], np.uint8).reshape(SQUARES, SQUARES)
    return jpeg(np.asarray(cv2.resize(squares, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST), np.uint8))


def read(crop: NDArray[np.uint8]) -> tuple[int, int]:
    """Whose crop [48, 48] it is, and its number."""
    step = crop.shape[0] // SQUARES
    bits = "".join("1" if square > 127 else "0" for square in crop[step // 2 :: step, step // 2 :: step].ravel())
    return int(bits[:OWNER_BITS], 2), int(bits[OWNER_BITS : OWNER_BITS + NUMBER_BITS], 2)


def mark_reader(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities that say: the owner of all five, the newest's number (in two parts), whether they follow on."""
    rows = np.zeros((len(windows), 7), np.float32)
    for row, window in zip(rows, windows, strict=True):
        owners, numbers = zip(*map(read, window), strict=True)
        same = len(set(owners)) == 1 and list(numbers) == sorted(numbers)
        row[:4] = owners[-1] / SCALE, numbers[-1] // 256 / SCALE, numbers[-1] % 256 / SCALE, same
    return rows


class MarkReadingPool(WorkerPool):
    """Workers whose networks read marks."""

    def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
        del runner, max_batch
        super().add_lane(name, mark_reader, 8, parallel=parallel)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    """A service whose networks read marks."""
    monkeypatch.setattr(engine, "WorkerPool", MarkReadingPool)
    with serving(Settings(port=0, batch_hold_ms=20)) as live:
        yield live


def named(probabilities: dict[str, float]) -> tuple[int, int, bool]:
    """Whose frames an answer was made of, the newest one's number, and whether all five were that owner's, in order."""
    owner, high, low, same = (value for value, _ in zip(probabilities.values(), range(4), strict=False))
    return round(owner * SCALE), 256 * round(high * SCALE) + round(low * SCALE), same == 1


@pytest.mark.parametrize(("owner", "number"), [(0, 0), (1, 2), (2**OWNER_BITS - 1, 2**NUMBER_BITS - 1), (9999, 777)])
def test_marks(owner: int, number: int) -> None:
    """A mark is read as it was written, through JPEG and the crop."""
    gray = cv2.imdecode(np.frombuffer(marked(owner, number), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert read(np.asarray(cv2.resize(gray, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)) == (owner, number)


def test_a_mixed_window_is_seen() -> None:
    """A window with one frame of another owner says so."""
    crops = [np.full((48, 48), 0, np.uint8)] * 5
    other = np.zeros((48, 48), np.uint8)
    other[:8, :8] = 255
    assert mark_reader(np.stack([np.stack(crops), np.stack([*crops[:4], other])]))[:, 3].tolist() == [1, 0]


class Crowd:
    """Clients whose frames are all marked; what each was answered is held against its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.wrong: list[object] = []
        self.right = {"stream": 0, "rest": 0}
        self._random = Random(0)  # noqa: S311 - chance, no secret
        self._owners = itertools.count(1)

    async def all_at_once(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http, asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._streams())
            for _ in range(2):
                group.create_task(self._calls(http))

    async def _streams(self) -> None:
        """One session after the other, of which half are killed with frames in flight."""
        for _ in range(LIVES):
            is_killed = self._random.random() < 0.5
            owner, options = next(self._owners), SessionOptions(region="whole")
            options["freshness"] = self._random.choice(["every", "latest"])
            with contextlib.suppress(TimeConvClientError):
                async with connect(self.url, **options) as session, asyncio.TaskGroup() as group:
                    group.create_task(self._hear(session, owner))
                    await self._send(session, owner, self._random.randrange(FRAMES_A_LIFE) if is_killed else None)
                    if is_killed:
                        session._socket.transport.abort()
                    else:
                        await session.close()

    async def _send(self, session: Session, owner: int, last: int | None) -> None:
        for number in range(FRAMES_A_LIFE if last is None else last):
            await session.send(marked(owner, number))
            if number == 10:
                await session.update(model=self._random.choice(["mini-xception-2d", "timeconv-mini-xception"]))

    async def _hear(self, session: Session, owner: int) -> None:
        with contextlib.suppress(TimeConvClientError):  # It was killed.
            async for event in session:
                if isinstance(event, Prediction):
                    self._judge("stream", owner, event.seq, event.faces[0].probabilities)

    async def _calls(self, http: httpx.AsyncClient) -> None:
        for _ in range(CALLS):
            owner = next(self._owners)
            files = [("frames", (f"{number}.jpg", marked(owner, number))) for number in range(FRAMES)]
            answer = (await http.post("/v1/predict?region=whole", files=files)).raise_for_status().json()
            self._judge("rest", owner, FRAMES - 1, answer["faces"][0]["probabilities"])

    def _judge(self, kind: str, owner: int, number: int, probabilities: dict[str, float]) -> None:
        if named(probabilities) == (owner, number, True):
            self.right[kind] += 1
        else:
            self.wrong.append((kind, (owner, number), named(probabilities)))


def test_no_session_gets_anything_of_anothers_frames(server: LiveServer) -> None:
    """At load, with sessions killed, begun anew and updated, and calls of REST beside, every answer is of its own."""
    crowd = Crowd(server.url)
    asyncio.run(crowd.all_at_once())
    assert crowd.wrong == []
    assert crowd.right["stream"] > CLIENTS * LIVES * FRAMES_A_LIFE / 4
    assert crowd.right["rest"] == 2 * CALLS
