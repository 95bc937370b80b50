"""``make load``: an open-loop load on the service, and what came of it.

A load is groups of sessions that send at a rate of their own, whatever the service makes of it:

  --group 60x15                 60 live sessions (freshness latest) of 15 frames/s each, at even intervals
  --group 1x150,flood           one that sends 150 frames/s and ignores its credit
  --group 1x15,every            one that wants every frame answered
  --group 4x2,rest,poisson      4 callers of POST /v1/predict, 2 calls/s of five pictures each, at random moments

The first group is judged: thresholds, ramp, knee and plots go by it. The others keep it company. When each frame is due
is drawn before the start, from --seed, and latency counts from then to the prediction, also where the frame could not
be sent in time. Frames that found no credit are not sent, and counted as that. After each load the same schedule goes
to a server that answers at once (echo): what that adds is the machine's, not the service's.

Exit status: 0 if every load (of a ramp: one) meets the thresholds and all sums add up, 1 if not, 2 if nothing could be
measured. The variable TIMECONV_KEY has the API key of a service that asks for one. docs/benchmarks.md says how to read
the report.
"""

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from loadtest.arguments import Parser, command, exit_status, number, positive
from loadtest.clips import encoded, moving_face, there_and_back
from loadtest.errors import BadLoad, CannotGenerate
from loadtest.figures import Point
from loadtest.page import as_html
from loadtest.plan import Load, parse_group
from loadtest.report import Report, as_json
from loadtest.run import Rig, measure, ramp, sweep, with_echo
from loadtest.servers import Server, end_on_sigterm, started
from loadtest.table import COLUMNS, lines, rows, verdict
from loadtest.thresholds import Thresholds
from service.settings import usable_cores
from service.streaming.clip import open_clip
from service.streaming.errors import StreamError
from training.provenance import made_by

_CLIP_FRAMES = 60
_JPEG_QUALITY = 90
_READY_TIMEOUT_S = 10
_RAMP_THRESHOLDS = Thresholds(max_p99_ms=100.0, min_answered=0.99)


def main() -> int:
    """Run the load; the exit status."""
    return exit_status("load", lambda: _run(_parser().parse_args()))


def _run(arguments: argparse.Namespace) -> int:
    load, thresholds = _load(arguments), _thresholds(arguments)
    pictures, clip = _clip(arguments.clip, arguments.size)
    best = None
    with ExitStack() as servers:
        rig = Rig(
            service=servers.enter_context(_service(arguments.url, arguments.pid)),
            echo=servers.enter_context(started("loadtest.echo")) if arguments.echo else None,
            clip=clip,
            processes=arguments.processes,
        )
        service = _ready(rig.service.address)
        print(*lines([COLUMNS]))
        on_service, on_echo = partial(measure, load, rig), partial(with_echo, load, rig)
        if arguments.ramp:
            points, best = ramp(thresholds, arguments.growth, arguments.resolution, on_service, on_echo, _tell)
        else:
            points = sweep(arguments.scales, on_service, on_echo, _tell)
    report = Report(
        made_by=made_by(command("load")),
        service=service,
        pictures=pictures,
        load=load,
        thresholds=thresholds,
        points=points,
        is_ramp=arguments.ramp,
        best=best,
    )
    print(*verdict(report), sep="\n")
    _write(report, arguments.out)
    return 0 if report.passed else 1


def _load(arguments: argparse.Namespace) -> Load:
    return Load(
        groups=tuple(map(parse_group, arguments.group or ["4x10"])),
        warm_up_s=arguments.warm_up,
        duration_s=arguments.duration,
        region=arguments.region,
        model=arguments.model,
        seed=arguments.seed,
    )


def _thresholds(arguments: argparse.Namespace) -> Thresholds:
    given = Thresholds(
        max_p99_ms=arguments.max_p99_ms, min_jain=arguments.min_jain, min_answered=arguments.min_answered
    )
    return _RAMP_THRESHOLDS if arguments.ramp and given == Thresholds() else given


def _clip(file: str | None, size: tuple[int, int]) -> tuple[str, list[bytes]]:
    """What is sent, in words and as JPEGs.

    Raises:
        BadLoad: the file holds no video.
    """
    if file is None:
        return f"a drifting face, {size[0]}x{size[1]}", there_and_back(encoded(moving_face(_CLIP_FRAMES, size)))
    try:
        with closing(open_clip(file, _JPEG_QUALITY)) as opened:
            frames = [frame.jpeg for frame in islice(iter(opened.read, None), _CLIP_FRAMES)]
    except StreamError as error:
        raise BadLoad(str(error).replace("\n", " ")) from error
    return f"{file}, its first {len(frames)} frames", there_and_back(frames)


@contextmanager
def _service(url: str | None, pid: int | None) -> Iterator[Server]:
    """The one at ``url``, or one of our own on a free port.

    Raises:
        BadLoad: a process without an address.
        CannotGenerate: it did not start.
    """
    if url is not None:
        yield Server(url.rstrip("/"), pid)
        return
    if pid is not None:
        raise BadLoad("--pid is that of the service at --url; one of our own is known")
    with started("service.cli", "serve", "--host", "127.0.0.1", "--port", "0") as server:
        yield server


def _ready(address: str) -> dict[str, Any]:
    """What the service says of itself.

    Raises:
        CannotGenerate: there is none, or it is not ready.
    """
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=_READY_TIMEOUT_S) as answer:  # noqa: S310 - see `_url`
            said: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        raise CannotGenerate(f"No service is ready at {address}: {error}") from error
    return said


def _tell(point: Point) -> None:
    print(*lines(rows(point)), sep="\n", flush=True)


def _write(report: Report, base: Path) -> None:
    base.parent.mkdir(parents=True, exist_ok=True)
    for ending, text in (("json", as_json(report)), ("html", as_html(report))):
        file = base.with_name(f"{base.name}.{ending}")
        file.write_text(text, encoding="utf-8")
        print(f"Written: {file}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser("load", __doc__)
    load = parser.add_argument_group("the load")
    load.add_argument("--group", action="append", metavar="NxRATE[,WORD...]", help="see above (default: 4x10)")
    load.add_argument("--duration", type=float, default=10.0, metavar="S", help="seconds that are measured (10)")
    load.add_argument("--warm-up", type=float, default=2.0, metavar="S", help="seconds before, not measured (2)")
    load.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="size of the pictures (640x480)")
    load.add_argument("--clip", metavar="FILE", help="send the frames of a video instead of a drifting face")
    load.add_argument("--region", choices=("detect", "whole"), default="detect", help="as in the protocol (detect)")
    load.add_argument("--model", help="network, name or name@version (the service's default)")
    load.add_argument("--seed", type=int, default=0, help="what schedules are drawn from (0)")
    loads = parser.add_argument_group("several loads, each with all rates multiplied")
    several = loads.add_mutually_exclusive_group()
    several.add_argument("--scales", type=_scales, default=(1.0,), metavar="A,B,...", help="by each of these (1)")
    several.add_argument("--ramp", action="store_true", help="search the highest load that meets the thresholds")
    loads.add_argument("--growth", type=_over_one, default=1.5, metavar="G", help="first steps of the ramp (1.5)")
    loads.add_argument("--resolution", type=positive, default=0.05, metavar="R", help="its last step (0.05: 5 %%)")
    judged = parser.add_argument_group("thresholds for the first group; --ramp alone stands for 100 ms and 0.99")
    judged.add_argument("--max-p99-ms", type=positive, metavar="MS", help="99th percentile of latency")
    judged.add_argument("--min-jain", type=_share, metavar="J", help="Jain's index over the sessions, 0..1")
    judged.add_argument("--min-answered", type=_share, metavar="A", help="predictions per frame due, 0..1")
    where = parser.add_argument_group("where")
    where.add_argument("--url", type=_url, help="a service that runs (default: one of its own, on a free port)")
    where.add_argument("--pid", type=int, help="its process on this machine, for CPU time and memory")
    where.add_argument("--processes", type=_count, default=max(1, usable_cores() // 2), metavar="N",
                       help="that generate load, at most (half the cores: %(default)s)")  # fmt: skip
    where.add_argument("--no-echo", dest="echo", action="store_false", help="no baseline, in half the time")
    where.add_argument(
        "--out", type=Path, default=Path("build/load"), help="of the report, .json and .html (%(default)s)"
    )
    return parser


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"not a size in pixels, such as 640x480: {text!r}")
    return int(found[1]), int(found[2])


def _scales(text: str) -> Sequence[float]:
    return tuple(positive(scale) for scale in text.split(","))


def _over_one(text: str) -> float:
    return number(text, 1, sys.float_info.max, "a number over 1")


def _share(text: str) -> float:
    return number(text, 0, 1, "a share over 0, 1 at most")


def _count(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"not a number of processes: {text!r}")


def _url(text: str) -> str:
    if re.match(r"https?://[^/]", text) is None:
        raise argparse.ArgumentTypeError(f"not an address such as http://127.0.0.1:8000: {text!r}")
    return text


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
