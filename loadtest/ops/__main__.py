"""``make ops-test``: dashboards, rules and alerts against a real Prometheus, a real load and real faults.

The service runs as its supervisor would run it: when it ends it is started again. Prometheus scrapes it, with the
project's rules. Then three things happen, one after the other:

  normal     a few viewers, and what else is done now and then: REST, a resume, a new version of a network
  fault      a damaged version of a network; networks that raise; one that hangs, until the watchdog ends the process
  overload   more viewers than the machine can serve

Each query of each panel and of each rule is run over each of the three. Written are a table of panels, queries and the
largest values seen (panels.md), what came of it (ops.json), and a picture of each dashboard, drawn from its queries.

Exit status: 0 if everything is as it must be, 1 if not, 2 if nothing could be tried.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtest.arguments import Parser, command, exit_status, positive
from loadtest.clips import encoded, moving_face, there_and_back
from loadtest.ops.audience import damaged_version, viewers, visit
from loadtest.ops.checks import Phase, Run, judged
from loadtest.ops.panels import panels
from loadtest.ops.place import Place
from loadtest.ops.prometheus import MONITORING, scraping
from loadtest.ops.report import write
from loadtest.servers import end_on_sigterm
from training.provenance import made_by

_CLIP_FRAMES = 24
_FEW, _SOME, _MANY = (6, 10.0), (20, 15.0), (100, 15.0)
"""Viewers, and frames a second of each. The many are some five times what two cores can serve."""


def main() -> int:
    """Run it; the exit status."""
    return exit_status("ops", lambda: _run(_parser().parse_args()))


def _run(arguments: argparse.Namespace) -> int:
    clip = there_and_back(encoded(moving_face(_CLIP_FRAMES, (640, 480))))
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name))
        with scraping(place.target, place.for_prometheus) as prometheus:
            phases, exit_status = asyncio.run(_live(place, clip, arguments.seconds))
            run = Run(
                made_by=made_by(command("ops")),
                prometheus=prometheus,
                panels=panels(MONITORING / "grafana" / "dashboards"),
                phases=phases,
                exit_status=exit_status,
            )
            for phase in phases:
                print(f"{phase.name}: {', '.join(sorted(run.alerts(phase, 'firing'))) or 'nothing'} fired", flush=True)
            wrong = judged(run)
            write(run, wrong, arguments.out)
    print(*(f"wrong: {what}" for what in wrong), sep="\n")
    print(f"Written: {arguments.out}", f"{len(wrong)} things are wrong" if wrong else "all is as it must be", sep="\n")
    return 1 if wrong else 0


async def _live(place: Place, clip: Sequence[bytes], seconds: float) -> tuple[list[Phase], int]:
    """Have the three things happen; when each was, and the exit status of the process that hung."""
    loop = asyncio.get_running_loop()
    phases: list[Phase] = []
    with place.supervised() as service:
        with Phase.named("normal", phases):
            until_s = loop.time() + seconds
            async with viewers(place.address, clip, *_FEW):
                await asyncio.sleep(seconds / 4)  # So that Prometheus sees the counts rise.
                await visit(place.address, clip, place.store, place.network)
                await asyncio.sleep(until_s - loop.time())
        with Phase.named("fault", phases):
            async with viewers(place.address, clip, *_SOME):
                with damaged_version(place.store, place.network), place.broken("raises"):
                    await asyncio.sleep(seconds / 2)
                with place.broken("hangs"):
                    exit_status = await asyncio.to_thread(service.ended)
                await asyncio.to_thread(service.restart)
                await asyncio.sleep(seconds / 2)
        with Phase.named("overload", phases):
            async with viewers(place.address, clip, *_MANY):
                await asyncio.sleep(1.25 * seconds)  # Longer than the minute that a rule looks at.
    return phases, exit_status


def _parser() -> Parser:
    parser = Parser("ops", __doc__)
    parser.add_argument("--seconds", type=positive, default=60.0, help="of each of the three, about (60)")
    parser.add_argument("--out", type=Path, default=Path("build/ops"), help="folder of what is written (%(default)s)")
    return parser


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
