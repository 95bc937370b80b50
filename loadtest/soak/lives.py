"""What clients do to a service: each life is one session of one kind, from the upgrade to its end.

Some of them are owed something: a session that lives to its end is owed an outcome for every frame, and a steady one
the same answers as without chaos. Of the others all that is asked is that nothing of them is left.
"""

import asyncio
import json
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from loadtest.histogram import Times
from loadtest.soak.peer import CLOSED, LOST, Answers, Peer, open_peer
from loadtest.tally import Account, Tally
from timeconv_client.address import stream_url

FRAME_US = 40_000
"""Between the capture times of a session: 25 frames/s, however fast it sends. So load decides nothing."""
MOST_DIFFERENCE = 1e-4
"""Of a probability from that without chaos."""
PATIENCE_S = 30.0
"""How long a session may take to open, and after the last frame to answer all and close."""
NOT_THE_CLIENTS_FAULT = frozenset({"failed", "overloaded"})
"""Outcomes that chaos may put in the place of another: each with a frame of its own, and with no other."""

Region = str


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the service that lives go by; it is told the same."""

    max_frame_bytes: int = 100_000
    idle_timeout_ms: int = 4_000
    blocked_timeout_ms: int = 2_000

    def settings(self) -> dict[str, str]:
        """As environment variables."""
        return {
            "TIMECONV_MAX_FRAME_BYTES": str(self.max_frame_bytes),
            "TIMECONV_IDLE_TIMEOUT_MS": str(self.idle_timeout_ms),
            "TIMECONV_BLOCKED_TIMEOUT_MS": str(self.blocked_timeout_ms),
            "TIMECONV_SEND_BUFFER_BYTES": "16384",
            # The chaos is to reach what lies behind these.
            "TIMECONV_MAX_FRAMES_PER_S": "1000000",
            "TIMECONV_MAX_TEXTS_PER_S": "100000",
            "TIMECONV_MAX_SMALL_FRAMES_PER_S": "100000",
        }


@dataclass
class Ledger:
    """What all lives came to.

    Attributes:
        lives: sessions begun, by kind.
        ends: how they ended.
        frames_sent: by all; with their ``outcomes``, as far as those were heard.
        unanswered: frames without an outcome of sessions that lived to their end.
        broken: promises that were not kept, a sentence each.
        compared: predictions held against those without chaos; ``max_difference`` the largest of a probability.
    """

    lives: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    frames_sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    broken: list[str] = field(default_factory=list)
    compared: int = 0
    max_difference: float = 0.0
    latency: Times = field(default_factory=Times)
    lateness: Times = field(default_factory=Times)

    def tally(self) -> Tally:
        """An account for one more session."""
        return Tally(group=0, measured_from_s=0.0, latency=self.latency, lateness=self.lateness)

    def ended(self, kind: str, peer: Peer, end: str, *, living: bool) -> None:
        """Take a session's account; ``living``: it was owed an outcome for every frame."""
        account = peer.tally.account()
        self.lives[kind] += 1
        self.ends[f"{kind}: {end}"] += 1
        self.frames_sent += account.sent
        self.outcomes.update(account.outcomes)
        if account.unexpected:
            self.broken.append(f"{kind}: {account.unexpected} outcomes for no frame, or a second one")
        if living:
            self.unanswered += account.unanswered
            self.broken += [f"{kind}: {found}" for found in _owed(account, end)]

    def compare(self, kind: str, reference: Answers, answers: Answers) -> None:
        """Hold a session's answers against those without chaos."""
        for seq, answer in answers.items():
            expected = reference[seq]
            if isinstance(answer, str) or isinstance(expected, str):
                if answer != expected and answer not in NOT_THE_CLIENTS_FAULT:
                    self.broken.append(f"{kind}: frame {seq} is {_named(answer)}, without chaos {_named(expected)}")
                continue
            self.compared += 1
            self.max_difference = max(
                self.max_difference, *(abs(answer[label] - expected[label]) for label in expected)
            )


def _owed(account: Account, end: str) -> list[str]:
    found = []
    if end != CLOSED:
        found.append(f"ended as {end!r}")
    if account.unanswered:
        found.append(f"{account.unanswered} of {account.sent} frames have no outcome")
    if end == CLOSED and account.told != account.outcomes:
        found.append(f"was told {account.told} at its end, and {account.outcomes} frame by frame")
    return found


def _named(answer: Mapping[str, float] | str) -> str:
    return answer if isinstance(answer, str) else "a prediction"


@dataclass(frozen=True)
class World:
    """What lives have in common.

    Attributes:
        clips: pictures by region; a steady session sends a clip once.
        reference: what a session with no chaos around it was answered, by region.
        models: networks that updates choose from, the first the default.
        period_s: between two frames of a session.
    """

    address: str
    clips: Mapping[Region, Sequence[bytes]]
    reference: Mapping[Region, Answers]
    models: Sequence[str]
    limits: Limits
    period_s: float
    until_s: float
    random: Random
    ledger: Ledger

    @property
    def is_over(self) -> bool:
        """Whether lives are to come to their end."""
        return time.monotonic() >= self.until_s

    async def open(self, *, small_buffer: bool = False, **options: object) -> Peer:
        """A connection that has asked for a session with capture times."""
        url = stream_url(self.address, {"timestamps": True, **options})
        return await open_peer(url, self.ledger.tally(), small_buffer=small_buffer)

    async def pause(self) -> None:
        """Until the next frame is due."""
        await asyncio.sleep(self.random.uniform(0.5, 1.5) * self.period_s)

    def region(self) -> Region:
        """One or the other."""
        return self.random.choice(sorted(self.clips))


Life = Callable[[World], Awaitable[None]]


async def steady(world: World, region: Region | None = None) -> None:
    """Does nothing wrong; its answers are those without chaos."""
    region = region or world.region()
    peer = await world.open(freshness="every", region=region)
    await peer.opened
    for number, picture in enumerate(world.clips[region]):
        await peer.until_credit()
        if world.is_over or peer.is_over:
            break
        peer.send_frame(picture, number * FRAME_US)
        await world.pause()
    end = await _closed(peer)
    world.ledger.ended("steady", peer, end, living=True)
    world.ledger.compare("steady", world.reference[region], peer.answers)


async def unruly(world: World) -> None:
    """Sends what is no picture, too large or too much, changes its options; it is answered all the same."""
    random, region = world.random, world.region()
    peer = await world.open(freshness=random.choice(["latest", "every"]), region=region, stride=random.randint(1, 3))
    await peer.opened
    heeds_credit = random.random() < 0.7
    for number in range(random.randint(5, 40)):
        if world.is_over or peer.is_over:
            break
        deed = random.choices(list(_DEEDS), list(_DEEDS.values()))[0]
        deed(world, peer, world.clips[region][number % len(world.clips[region])], number * FRAME_US)
        if heeds_credit:
            await peer.until_credit()
        await world.pause()
    peer.read_on()
    world.ledger.ended("unruly", peer, await _closed(peer), living=True)


async def killed(world: World) -> None:
    """Is gone with a reset: during the upgrade, between frames, within one, or while it is being closed."""
    random, region = world.random, world.region()
    peer = await world.open(region=region, freshness=random.choice(["latest", "every"]))
    moment = random.choice(["upgrade", "between", "within", "closing"])
    if moment != "upgrade":
        await peer.opened
        for number in range(random.randint(0, 12)):
            peer.send_frame(world.clips[region][number], number * FRAME_US)
            if random.random() < 0.5:
                await world.pause()
    if moment == "within":
        peer.send_raw(_half_a_frame(world.clips[region][0]))
        await world.pause()
    if moment == "closing":
        peer.send_text('{"type":"session.close"}')
    peer.reset()
    await peer.ended
    world.ledger.ended("killed", peer, moment, living=False)


async def silent(world: World) -> None:
    """Neither sends nor reads nor ends, as one whose network is gone; the service must end it in time."""
    random, region = world.random, world.region()
    peer = await world.open(region=region, small_buffer=True)
    await peer.opened
    for number in range(random.randint(0, 8)):
        peer.send_frame(world.clips[region][number], number * FRAME_US)
    if random.random() < 0.5:
        peer.send_raw(_half_a_frame(world.clips[region][0]))
    peer.read_no_more()
    waits_ms = world.limits.idle_timeout_ms + world.limits.blocked_timeout_ms
    await asyncio.sleep(waits_ms / 1000 + 2)
    peer.read_on()
    try:
        async with asyncio.timeout(PATIENCE_S):
            end = await peer.ended
    except TimeoutError:
        end = "not ended"
        world.ledger.broken.append(f"silent: the service had not ended it after {waits_ms / 1000 + PATIENCE_S:g} s")
        peer.reset()
    world.ledger.ended("silent", peer, end, living=False)


async def slow(world: World) -> None:
    """Sends on and does not read for a while: it is answered, or ended as a slow reader."""
    random, region = world.random, "whole"
    peer = await world.open(region=region, freshness=random.choice(["latest", "every"]), small_buffer=True)
    await peer.opened
    peer.read_no_more()
    until_s = time.monotonic() + random.uniform(0.2, 3) * world.limits.blocked_timeout_ms / 1000
    number = 0
    while time.monotonic() < until_s and not peer.is_over:
        peer.send_frame(world.clips[region][number % 8], number * FRAME_US)
        for _ in range(25):
            peer.send_text("?")  # Its answers fill the buffers sooner than predictions do.
        number += 1
        await asyncio.sleep(0.1)
    peer.read_on()
    end = await _closed(peer)
    world.ledger.ended("slow", peer, end, living=end not in {"slow_reader", LOST})


async def lawless(world: World) -> None:
    """Breaks a rule of WebSocket; the service says which, and is rid of it."""
    wrong, code = world.random.choice(
        [
            (_frame(2, bytes(8), size=2 * world.limits.max_frame_bytes + 100), 1009),
            (bytes((0x82, 4)) + b"bare", 1002),
            (_frame(3, b"what"), 1002),
            (_frame(1, b"\xff\xfe\xfd"), 1007),
            (_frame(9, bytes(126)), 1002),
        ]
    )
    peer = await world.open(region="whole")
    await peer.opened
    peer.send_frame(world.clips["whole"][0], 0)
    peer.send_raw(wrong)
    try:
        async with asyncio.timeout(PATIENCE_S):
            end = await peer.ended
    except TimeoutError:
        end = "not ended"
        peer.reset()
    if end != f"close {code}":
        world.ledger.broken.append(f"lawless: {wrong[:4].hex(' ')} ended as {end!r}, not with {code}")
    world.ledger.ended("lawless", peer, end, living=False)


CHAOS: Mapping[Life, int] = {unruly: 6, killed: 5, silent: 2, slow: 2, lawless: 1}
"""Lives by how often they are lived."""


async def live(world: World, *, is_steady: bool) -> None:
    """One life after the other, until the end."""
    await asyncio.sleep(world.random.random() * world.period_s)
    while not world.is_over:
        life = steady if is_steady else world.random.choices(list(CHAOS), list(CHAOS.values()))[0]
        try:
            async with asyncio.timeout(20 * PATIENCE_S):
                await life(world)
        except (OSError, TimeoutError) as error:
            world.ledger.broken.append(f"{life.__name__}: {type(error).__name__}: {error}")
            await world.pause()


Deed = Callable[[World, Peer, bytes, int], None]
"""Something that an unruly client does where a picture is due: with that picture and its capture time."""


def _send(change: Callable[[World, bytes], bytes]) -> Deed:
    """Send the picture changed."""
    return lambda world, peer, picture, stamp_us: peer.send_frame(change(world, picture), stamp_us)


def _say(text: Callable[[World], str]) -> Deed:
    return lambda world, peer, _, __: peer.send_text(text(world))


def _ping(_: World, peer: Peer, picture: bytes, stamp_us: int) -> None:
    peer.send_ping()
    peer.send_frame(picture, stamp_us)  # Who only pings is idle, and ended as that.


def _deaf_for_a_while(_: World, peer: Peer, picture: bytes, stamp_us: int) -> None:
    peer.read_no_more()
    peer.send_frame(picture, stamp_us)
    asyncio.get_running_loop().call_later(0.3, peer.read_on)


_BAD_UPDATE = json.dumps({"type": "session.update", "options": {"stride": 99, "model": "\0"}})
_NO_MESSAGES = ("", "{", "[]" * 50, '{"type":1}', "\0", '{"type":"session.closed"}')

_DEEDS: Mapping[Deed, int] = {
    _send(lambda _, picture: picture): 60,
    _send(lambda world, picture: _corrupt(world.random, picture)): 5,
    _send(lambda world, picture: picture[: world.random.randrange(len(picture))]): 5,
    _send(lambda world, picture: picture + bytes(world.limits.max_frame_bytes + 1 - len(picture))): 2,
    _send(lambda _, picture: _of_size(picture, 60_000, 60_000)): 2,
    _say(lambda world: _update(world.random, world.models)): 6,
    _say(lambda _: _BAD_UPDATE): 3,
    _say(lambda world: world.random.choice(_NO_MESSAGES)): 3,
    _ping: 4,
    _deaf_for_a_while: 3,
    lambda world, peer, picture, _: peer.send_frame(picture, world.random.choice((0, 2**63, 2**64 - 1))): 3,
}
"""By how often they are done."""


def _update(random: Random, models: Sequence[str]) -> str:
    options = random.choice(
        [
            {"stride": random.randint(1, 5)},
            {"region": random.choice(["detect", "whole"])},
            {"freshness": "every", "max_age_ms": None},
            {"freshness": "latest", "max_age_ms": random.choice([None, 1, 500])},
            {"model": random.choice(models)},
        ]
    )
    return json.dumps({"type": "session.update", "options": options})


def _corrupt(random: Random, picture: bytes) -> bytes:
    changed = bytearray(picture)
    for _ in range(random.randint(1, 20)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _of_size(picture: bytes, width: int, height: int) -> bytes:
    """The picture with another size in its header."""
    at = picture.index(b"\xff\xc0") + 5
    return picture[:at] + struct.pack("!HH", height, width) + picture[at + 4 :]


def _frame(opcode: int, payload: bytes, size: int | None = None) -> bytes:
    """The bytes of a client's WebSocket frame, its mask 0; ``size``: what its header says instead."""
    said = len(payload) if size is None else size
    length = bytes((0x80 | said,)) if said < 126 else bytes((0x80 | 127,)) + struct.pack("!Q", said)
    return bytes((0x80 | opcode,)) + length + bytes(4) + payload


def _half_a_frame(picture: bytes) -> bytes:
    return _frame(2, picture[: len(picture) // 2], size=len(picture))


async def _closed(peer: Peer) -> str:
    """How the session ended, once it was asked to close."""
    peer.send_text('{"type":"session.close"}')
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await peer.ended
    except TimeoutError:
        peer.reset()
        return f"not closed after {PATIENCE_S:g} s"
