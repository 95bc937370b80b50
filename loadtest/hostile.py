"""What a hostile client costs its neighbour.

A service of its own is started, and a client that keeps the rules streams to it at a steady rate. Beside it one
attacker after another, each a process of its own, does what it can for some seconds:

    python -m loadtest.hostile [--seconds 8] [--attack ping_flood ...] [--out build/hostile.json]

The neighbour's 99th percentile is printed without an attack and with each, and their ratio. Attackers take CPU time of
the same machine; so each attack is also run against a sink: a process that accepts, reads and drops everything, while
the neighbour streams to the service as before. What that costs is the attacker's and the machine's, not the service's.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.clips import encoded, moving_face, there_and_back
from loadtest.servers import end_on_sigterm, started
from timeconv_client import Prediction, connect

_UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_PING = b"\x89\x81\0\0\0\0!"
_FRAGMENT = b"\0\x81\0\0\0\0x"
_TINY = b"\x82\x81\0\0\0\0x"
_RATE = 50
_WARM_UP_S = 2.0
_SILENT = 400
_PATIENCE_S = 0.5

Address = tuple[str, int]


# Attacks: each opens connections anew as they are ended, for as long as it lives


def _flood(address: Address, begin: bytes, rest: bytes) -> None:
    with suppress(OSError), socket.create_connection(address, _PATIENCE_S) as attacker:
        attacker.sendall(begin)
        if begin.startswith(_UPGRADE[:20]):
            with suppress(TimeoutError):
                attacker.recv(4096)
        chunk = rest * (262_144 // len(rest))
        while True:
            attacker.sendall(chunk)


def _ping_flood(address: Address) -> None:
    _flood(address, _UPGRADE, _PING)


def _fragments(address: Address) -> None:
    _flood(address, _UPGRADE + b"\x02" + _FRAGMENT[1:], _FRAGMENT)


def _tiny_messages(address: Address) -> None:
    _flood(address, _UPGRADE, _TINY)


def _endless_header(address: Address) -> None:
    _flood(address, b"GET / HTTP/1.1\r\nx: ", b"y" * 4096)


def _silence(address: Address) -> None:
    held = []
    for _ in range(_SILENT):
        with suppress(OSError):
            held.append(socket.create_connection(address, _PATIENCE_S))
    time.sleep(3600)


def _connections(address: Address) -> None:
    with suppress(OSError), socket.create_connection(address, _PATIENCE_S) as attacker:
        attacker.sendall(b"G")


ATTACKS: dict[str, Callable[[Address], None]] = {
    "ping_flood": _ping_flood,
    "one_byte_fragments": _fragments,
    "tiny_messages": _tiny_messages,
    "endless_header": _endless_header,
    "silent_connections": _silence,
    "connection_flood": _connections,
}


def _again_and_again(attack: Callable[[Address], None], address: Address) -> None:
    while True:
        attack(address)


@contextmanager
def _child(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """A process that lives as long as the block."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _sink(listening: socket.socket) -> None:
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


def measure(seconds: float, attacks: Sequence[str], clip: Sequence[bytes]) -> list[dict[str, float | str]]:
    """A row for each attack, the first without any: 50th and 99th percentiles in ms, beside service and sink."""
    rows: list[dict[str, float | str]] = []
    with started("service.cli", "serve", "--port", "0") as server, socket.create_server(("127.0.0.1", 0)) as sink:
        parts = urlsplit(server.address)
        assert parts.hostname is not None
        assert parts.port is not None
        service: Address = (parts.hostname, parts.port)

        def latencies() -> tuple[float, float]:
            found = asyncio.run(_neighbour(server.address, clip, seconds))
            return _percentile_ms(found, 0.5), _percentile_ms(found, 0.99)

        asyncio.run(_neighbour(server.address, clip, _WARM_UP_S))
        with _child(_sink, sink):
            for name in ("none", *attacks):
                row: dict[str, float | str] = {"attack": name}
                targets = {"service": service} if name == "none" else {"service": service, "sink": sink.getsockname()}
                for target, address in targets.items():
                    if name == "none":
                        p50_ms, p99_ms = latencies()
                    else:
                        with _child(_again_and_again, ATTACKS[name], address):
                            time.sleep(1)  # It starts an interpreter first.
                            p50_ms, p99_ms = latencies()
                    row |= {f"{target}_p50_ms": p50_ms, f"{target}_p99_ms": p99_ms}
                rows.append(row)
                print(line(row, rows[0]), flush=True)
    return rows


def line(row: dict[str, float | str], alone: dict[str, float | str]) -> str:
    """A row of the table, as Markdown."""
    p99_ms, alone_ms = float(row["service_p99_ms"]), float(alone["service_p99_ms"])
    text = f"| {row['attack']} | {float(row['service_p50_ms']):.1f} | {p99_ms:.1f} | {p99_ms / alone_ms:.2f} |"
    if "sink_p99_ms" not in row:
        return f"{text} | |"
    sink_ms = float(row["sink_p99_ms"])
    return f"{text} {sink_ms:.1f} | {p99_ms / sink_ms:.2f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="of each measurement (8)")
    parser.add_argument("--attack", nargs="+", choices=tuple(ATTACKS), default=tuple(ATTACKS), help="some of them")
    parser.add_argument("--out", type=Path, default=Path("build/hostile.json"), help="the figures (%(default)s)")
    options = parser.parse_args(arguments)
    clip = there_and_back(encoded(moving_face(25)))
    print("| attack | p50, ms | p99, ms | of that without | p99 beside the sink, ms | of that |")
    print("|---|---|---|---|---|---|")
    rows = measure(options.seconds, options.attack, clip)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    end_on_sigterm()
    main()
