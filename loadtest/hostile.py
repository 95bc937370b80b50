"""What a hostile client costs its neighbour.

A service of its own is started, and a client that keeps the rules streams to it at a steady rate. Beside it one
attacker after another, each a process of its own, does what it can for some seconds, and connects anew as often and as
soon as it is ended. Attackers come from this machine's outer address, the neighbour from its loopback:

    python -m loadtest.hostile [--seconds 8] [--repeat 3] [--attack ping_flood ...] [--out build/hostile.json]

Attackers take CPU time of the same machine; so each attack is also run against a sink: a process that accepts, reads
and drops everything, while the neighbour streams to the service as before. What that costs is the attacker's and the
machine's, not the service's. The three come in turns, alone, beside the attack on the service, beside that on the sink,
as often as --repeat says; a row has their medians. Each ratio is of two that were measured one after the other, and the
median of those.

Exit status: 0 when all is measured, whatever the figures; 2 if nothing could be measured.
"""

import argparse
import asyncio
import ctypes
import json
import multiprocessing
import socket
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.arguments import Parser, exit_status, positive
from loadtest.clips import encoded, moving_face, there_and_back
from loadtest.errors import CannotGenerate
from loadtest.processes import heard, process
from loadtest.servers import end_on_sigterm, started
from timeconv_client import Prediction, connect

_UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_PING = b"\x89\x81\0\0\0\0!"
_FRAGMENT = b"\0\x81\0\0\0\0x"
_TINY = b"\x82\x81\0\0\0\0x"
_RATE = 50
_WARM_UP_S = 2.0
_SILENT = 400
_EVERYWHERE = {"TIMECONV_HOST": "0.0.0.0", "TIMECONV_ALLOW_ANYONE": "true"}  # noqa: S104 - attackers come from outside
_BACKLOG = 2048
"""Of the sink, as of uvicorn: with few places a flood of connections would wait there, and be none."""
_PATIENCE_S = 0.5
_BEGIN_TIMEOUT_S = 60.0

Address = tuple[str, int]
Open = Callable[[], socket.socket]
"""Opens another connection."""


# Attacks: each does it once, and is called again and again


def _flood(open_one: Open, begin: bytes, rest: bytes) -> None:
    with suppress(OSError), open_one() as attacker:
        attacker.sendall(begin)
        if begin.startswith(_UPGRADE[:20]):
            with suppress(TimeoutError):
                attacker.recv(4096)
        chunk = rest * (262_144 // len(rest))
        while True:
            attacker.sendall(chunk)


def _ping_flood(open_one: Open) -> None:
    _flood(open_one, _UPGRADE, _PING)


def _fragments(open_one: Open) -> None:
    _flood(open_one, _UPGRADE + b"\x02" + _FRAGMENT[1:], _FRAGMENT)


def _tiny_messages(open_one: Open) -> None:
    _flood(open_one, _UPGRADE, _TINY)


def _endless_header(open_one: Open) -> None:
    _flood(open_one, b"GET / HTTP/1.1\r\nx: ", b"y" * 4096)


def _silence(open_one: Open) -> None:
    held = []
    for _ in range(_SILENT):
        with suppress(OSError):
            held.append(open_one())
    for attacker in held:
        with suppress(OSError), attacker:
            attacker.settimeout(None)
            while attacker.recv(4096):  # Why it is ended; then the end.
                pass


def _connections(open_one: Open) -> None:
    with suppress(OSError), open_one() as attacker:
        attacker.sendall(b"G")


ATTACKS: Mapping[str, Callable[[Open], None]] = {
    "ping_flood": _ping_flood,
    "one_byte_fragments": _fragments,
    "tiny_messages": _tiny_messages,
    "endless_header": _endless_header,
    "silent_connections": _silence,
    "connection_flood": _connections,
}


@dataclass(frozen=True, slots=True)
class _Attack:
    """``made``: connections so far, in memory that both processes have."""

    name: str
    address: Address
    made: ctypes.c_uint64


def _again_and_again(attack: _Attack, pipe: Connection) -> None:
    """Attack without end; say so as soon as the first connection was opened or refused."""
    has_begun = False

    def open_one() -> socket.socket:
        nonlocal has_begun
        try:
            opened = socket.create_connection(attack.address, _PATIENCE_S)
            attack.made.value += 1
        finally:
            if not has_begun:
                has_begun = True
                pipe.send(None)
        return opened

    while True:
        ATTACKS[attack.name](open_one)


@contextmanager
def attacking(name: str, address: Address) -> Iterator[Callable[[], int]]:
    """An attacker that has begun; yields how many connections it has made so far.

    Raises:
        CannotGenerate: it does not begin.
    """
    made = multiprocessing.get_context("spawn").RawValue(ctypes.c_uint64)
    with process(_again_and_again, _Attack(name, address, made)) as pipe:
        if not pipe.poll(_BEGIN_TIMEOUT_S):
            raise CannotGenerate(f"The attacker {name} did not begin within {_BEGIN_TIMEOUT_S:g} s")
        heard(pipe)
        yield lambda: made.value


def _sink(listening: socket.socket, _: Connection) -> None:
    """Accept and drop; an upgrade is answered with something, so that attackers go on."""

    def drop(victim: socket.socket) -> None:
        with suppress(OSError), victim:
            victim.send(b"HTTP/1.1 101 \r\n\r\n")
            while victim.recv(262_144):
                pass

    while True:
        threading.Thread(target=drop, args=(listening.accept()[0],), daemon=True).start()


async def _neighbour(url: str, clip: Sequence[bytes], seconds: float) -> list[float]:
    """Latencies in seconds of a client that streams at a steady rate, from when a frame was due to its answer.

    In `every`: a frame is answered however late, and its wait for credit counts.
    """
    due_s: list[float] = []
    async with connect(url, freshness="every") as session:

        async def frames() -> AsyncIterator[bytes]:
            begin_s = time.monotonic()
            for index in range(round(_RATE * seconds)):
                due_s.append(begin_s + index / _RATE)
                await asyncio.sleep(due_s[-1] - time.monotonic())
                yield clip[index % len(clip)]

        return [
            time.monotonic() - due_s[event.seq]
            async for event in session.stream(frames())
            if isinstance(event, Prediction)
        ]


def _percentile_ms(latencies: Sequence[float], share: float) -> float:
    ordered = sorted(latencies)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Figures:
    """Percentiles of the neighbour's latency, and connections that the attacker made, a second."""

    p50_ms: float
    p99_ms: float
    connections_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Round:
    """The neighbour alone, beside the attack on the service, and beside that on the sink; one after the other."""

    none: Figures
    service: Figures
    sink: Figures


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of an attack."""

    attack: str
    rounds: Sequence[Round]

    def cells(self) -> Mapping[str, float]:
        """Columns of the table: medians over the rounds, also of ratios."""

        def median(of: Callable[[Round], float]) -> float:
            return statistics.median(map(of, self.rounds))

        return {
            "connections_per_s": median(lambda each: each.service.connections_per_s),
            "alone_p99_ms": median(lambda each: each.none.p99_ms),
            "p50_ms": median(lambda each: each.service.p50_ms),
            "p99_ms": median(lambda each: each.service.p99_ms),
            "of_alone": median(lambda each: each.service.p99_ms / each.none.p99_ms),
            "sink_connections_per_s": median(lambda each: each.sink.connections_per_s),
            "sink_p99_ms": median(lambda each: each.sink.p99_ms),
            "of_sink": median(lambda each: each.service.p99_ms / each.sink.p99_ms),
        }

    def line(self) -> str:
        """The row, as Markdown."""
        return _line(
            self.attack,
            *(f"{value:.0f}" if name.endswith("per_s") else f"{value:.2f}" for name, value in self.cells().items()),
        )


HEADER = (
    "attack", "connections/s", "p99 alone, ms", "p50, ms", "p99, ms", "of that alone",
    "connections/s to the sink", "p99 beside the sink, ms", "of that",
)  # fmt: skip


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def outer_address() -> str:
    """This machine's address towards others, so that limits per address hold; the loopback if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # Nothing is sent; the address is one of documentation (RFC 5737).
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def measure(seconds: float, repeat: int, attacks: Sequence[str], clip: Sequence[bytes]) -> Iterator[Row]:
    """A row for each attack, each as soon as it is measured.

    Raises:
        CannotGenerate: the service or an attacker did not start.
    """
    host = outer_address()
    with (
        started("service.cli", "serve", "--port", "0", settings=_EVERYWHERE) as server,
        socket.create_server((host, 0), backlog=_BACKLOG) as listening,
        process(_sink, listening),
    ):
        port = urlsplit(server.address).port
        assert port is not None
        service, sink, neighbours = (host, port), listening.getsockname(), f"http://127.0.0.1:{port}"

        def figures(made: Callable[[], int] = lambda: 0) -> Figures:
            begin_s, before = time.monotonic(), made()
            latencies = asyncio.run(_neighbour(neighbours, clip, seconds))
            per_s = (made() - before) / (time.monotonic() - begin_s)
            return Figures(_percentile_ms(latencies, 0.5), _percentile_ms(latencies, 0.99), per_s)

        def attacked(name: str, address: Address) -> Figures:
            with attacking(name, address) as made:
                return figures(made)

        asyncio.run(_neighbour(neighbours, clip, _WARM_UP_S))
        for name in attacks:
            yield Row(name, [Round(figures(), attacked(name, service), attacked(name, sink)) for _ in range(repeat)])


def main() -> int:
    """Measure, print a table, and write the figures; the exit status."""
    return exit_status("hostile", lambda: _run(_parser().parse_args()))


def _run(arguments: argparse.Namespace) -> int:
    rows, clip = [], there_and_back(encoded(moving_face(25)))
    print(_line(*HEADER), "|---" * len(HEADER) + "|", sep="\n", flush=True)
    for row in measure(arguments.seconds, arguments.repeat, arguments.attack, clip):
        rows.append({"attack": row.attack, **row.cells(), "rounds": [asdict(each) for each in row.rounds]})
        print(row.line(), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser("hostile", __doc__)
    parser.add_argument("--seconds", type=positive, default=8.0, metavar="S", help="of each measurement (8)")
    parser.add_argument("--repeat", type=int, choices=range(1, 100), default=1, metavar="N", help="rounds (1)")
    parser.add_argument("--attack", nargs="+", choices=tuple(ATTACKS), default=tuple(ATTACKS), help="some of them")
    parser.add_argument("--out", type=Path, default=Path("build/hostile.json"), help="the figures (%(default)s)")
    return parser


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
