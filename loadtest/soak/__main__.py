"""``make soak``: clients that behave badly, networks that fail, and what is left of the service's promises.

Steady sessions, a quarter of all, do nothing wrong and must be answered as without chaos. The others send what is no
picture, change their minds, do not read, break rules, or are gone: with a reset or without a word. A share of all calls
of the networks raises, is slow, or answers too little or no numbers. docs/reliability.md says what is promised.

Exit status: 0 if every promise was kept, 1 if not, 2 if nothing could be measured.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from loadtest.arguments import Parser, command, exit_status
from loadtest.clips import encoded, face_alone, moving_face, there_and_back
from loadtest.counters import fetch
from loadtest.errors import CannotGenerate
from loadtest.servers import Sample, Server, end_on_sigterm, started, watched
from loadtest.soak.held import held, in_use, leaks, parse_faults
from loadtest.soak.lives import FRAME_US, Ledger, Limits, Region, World, live
from loadtest.soak.peer import CLOSED, Answers, open_peer
from loadtest.soak.report import Soak, verdict, write
from timeconv_client.address import stream_url
from training.provenance import made_by

_CLIP_FRAMES = 24
_SETTLE_S = 30.0
_WARM_UP_S = 20.0
_OTHER_MODELS = ("mini-xception-2d", "timeconv-mini-xception")


def main() -> int:
    """Run the soak; the exit status."""
    return exit_status("soak", lambda: _run(_parser().parse_args()))


def _run(arguments: argparse.Namespace) -> int:
    limits, clips = Limits(), _clips()
    with started("service.cli", "serve", "--host", "127.0.0.1", "--port", "0", settings=limits.settings()) as clean:
        reference = asyncio.run(_reference(clean, clips, ""))
    with started("loadtest.soak.service", settings={"TIMECONV_PORT": "0", **limits.settings()}) as server:
        for model in ("", *_OTHER_MODELS):  # What is loaded for good is no leak.
            asyncio.run(_reference(server, clips, model))
        before = held(server)

        def world(seconds: float) -> World:
            return World(
                address=server.address,
                clips=clips,
                reference=reference,
                models=("", *_OTHER_MODELS),
                limits=limits,
                period_s=1 / arguments.rate,
                until_s=time.monotonic() + seconds,
                random=random.Random(arguments.seed),  # noqa: S311 - chance, no secret
                ledger=Ledger(),
            )

        # What comes once with the first of its kind, series of metrics and caches of code, is no leak either.
        asyncio.run(_chaos(world(_WARM_UP_S), server, arguments.sessions))
        leaks(before, partial(held, server), _SETTLE_S)
        in_use_before = in_use(server)
        samples = asyncio.run(_chaos(lived := world(arguments.seconds), server, arguments.sessions))
        left = leaks(before, partial(held, server), _SETTLE_S)
        soak = Soak(
            made_by=made_by(command("soak")),
            seconds=arguments.seconds,
            clients=arguments.sessions,
            ledger=lived.ledger,
            leaks=left,
            more=in_use(server) - in_use_before,
            faults=parse_faults(fetch(f"{server.address}/metrics")),
            healthy=_is_healthy(server),
            samples=samples,
        )
    write(soak, arguments.out)
    print(*verdict(soak), sep="\n")
    return 1 if soak.broken() else 0


async def _chaos(world: World, server: Server, sessions: int) -> list[Sample]:
    """Let them live; memory of the service meanwhile."""
    with watched(server.pid) as samples:
        async with asyncio.TaskGroup() as living:
            for number in range(sessions):
                living.create_task(live(world, is_steady=number % 4 == 0))
    return [sample for sample in samples if sample.at_s <= world.until_s]


async def _reference(server: Server, clips: Mapping[Region, Sequence[bytes]], model: str) -> dict[Region, Answers]:
    """What a session is answered that is alone, by region.

    Raises:
        CannotGenerate: it did not end in order.
    """
    answers = {}
    for region, clip in clips.items():
        options = {"timestamps": True, "freshness": "every", "region": region, "model": model or None}
        peer = await open_peer(stream_url(server.address, options), Ledger().tally())
        await peer.opened
        for number, picture in enumerate(clip):
            await peer.until_credit()
            peer.send_frame(picture, number * FRAME_US)
        peer.send_text('{"type":"session.close"}')
        if (end := await peer.ended) != CLOSED:
            raise CannotGenerate(f"A session without chaos ended as {end!r}")
        answers[region] = peer.answers
    return answers


def _clips() -> dict[Region, Sequence[bytes]]:
    return {
        "detect": there_and_back(encoded(moving_face(_CLIP_FRAMES))),
        "whole": there_and_back(encoded(face_alone(_CLIP_FRAMES))),
    }


def _is_healthy(server: Server) -> bool:
    try:
        fetch(f"{server.address}/healthz")
    except CannotGenerate:
        return False
    return True


def _parser() -> Parser:
    parser = Parser("soak", __doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long; 600 unless said, 60 for a short form")
    parser.add_argument("--sessions", type=int, default=200, help="clients at once (200)")
    parser.add_argument("--rate", type=float, default=1.0, help="frames a second of a client (1)")
    parser.add_argument("--seed", type=int, default=0, help="of what they do (0)")
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"), help="the file; a .png goes beside it")
    return parser


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
