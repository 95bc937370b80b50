"""``make bench``: CPU time of the service for one prediction, beside the least that its parts cost alone.

Exit status: 0 when all is measured, whatever the figures; with --check 1 where a goal is not met; 2 if nothing can be
measured: the machine is not idle, or a network is not in the model store. docs/benchmarks.md says what each figure is.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import psutil
import typer

from loadtest.arguments import Parser, command, exit_status, positive
from loadtest.bench import picture, report
from loadtest.bench.cases import CASES, FULL_FRAME, Case, choose, clip_of
from loadtest.bench.floor import WHOLE, Bench, Paper, Result
from loadtest.bench.measure import measure_echo, measure_idle, measure_mosec, measure_service
from loadtest.bench.paper import run_paper
from loadtest.bench.parts import measure_parts
from loadtest.errors import BadLoad, CannotGenerate, LoadError
from loadtest.servers import end_on_sigterm
from service.cli import read_settings
from service.engine import open_detector
from service.errors import TimeConvError
from service.inference.artifact import Artifact, ModelStore, NetworkManifest
from service.inference.device import choose_device
from service.inference.runner import OnnxNetwork
from service.settings import Settings
from service.vision.crop import CropGeometry
from training.provenance import made_by

_MAX_LOAD_PERCENT = 10.0
_IDLE_S = 20.0
"""CPU time comes in ticks of 10 ms: over 2 s one tick would be half of what an idle service may use."""


def main() -> int:
    """Measure; the exit status."""
    unusable = (LoadError, TimeConvError, typer.BadParameter)
    return exit_status("bench", lambda: _run(_parser().parse_args()), unusable)


def _run(arguments: argparse.Namespace) -> int:
    settings = read_settings()
    store = ModelStore(settings.model_store)
    artifacts = {case.network: store.find(case.model, "network") for case in arguments.cases}
    load_percent = require_idle(arguments.max_load)
    cv2.setNumThreads(1)
    chosen = {case.name: case for case in arguments.cases}
    first = arguments.cases[0]
    # What may fail to start comes first, before minutes are spent.
    mosec = measure_mosec(chosen[WHOLE].model, arguments.seconds) if WHOLE in chosen else None
    idle_percent = measure_idle(first, first.clip(), max(arguments.seconds, _IDLE_S))
    paper = {network: _paper(artifact, arguments.seconds) for network, artifact in artifacts.items()}
    print(report.line(report.COLUMNS), flush=True)
    results = []
    for case in arguments.cases:
        rounds = [
            _measure(case, artifacts[case.network], settings, store, arguments.seconds) for _ in range(arguments.rounds)
        ]
        middle = sorted(rounds, key=lambda each: each.ratio)[len(rounds) // 2]
        results.append(dataclasses.replace(middle, max_difference=max(each.max_difference for each in rounds)))
        print(report.line(report.row(results[-1])), flush=True)
    bench = Bench(
        made_by=made_by(command("bench")),
        load_percent=load_percent,
        results=tuple(results),
        paper=paper,
        mosec=mosec,
        idle_percent=idle_percent,
    )
    print("", report.markdown(bench) if arguments.markdown else "\n".join(report.sentences(bench)), sep="\n")
    _write(bench, arguments.out)
    return 1 if arguments.check and not all(met for _, met in bench.goals()) else 0


def require_idle(
    max_percent: float, measure: Callable[[float], float] = lambda seconds: float(psutil.cpu_percent(seconds))
) -> float:
    """CPU use of the whole machine, in percent of all cores, over a second.

    Raises:
        CannotGenerate: over ``max_percent``: figures would be of what else runs, too.
    """
    load = measure(1.0)
    if load > max_percent:
        raise CannotGenerate(
            f"the machine is {load:.0f} % busy, over {max_percent:g} %, so nothing is measured; --max-load raises that"
        )
    return load


def _measure(case: Case, artifact: Artifact, settings: Settings, store: ModelStore, seconds: float) -> Result:
    clip = case.clip()
    parts = measure_parts(
        clip,
        case.region,
        detector=open_detector(settings, store),
        detect_every=settings.detect_every_frames,
        geometry=_geometry(artifact, settings.detector),
        network=OnnxNetwork(artifact, choose_device("cpu")),
    )
    echo_us = measure_echo(case, clip, seconds)
    served, max_difference = measure_service(case, clip, seconds)
    detecting = None if case.region == "whole" else measure_service(case, clip, seconds, detect_every=1)[0]
    return Result(
        case=case.name,
        echo_us=echo_us,
        parts=parts,
        served=served,
        detecting=detecting,
        max_difference=max_difference,
    )


def _paper(artifact: Artifact, seconds: float) -> Paper:
    return run_paper(clip_of(FULL_FRAME), OnnxNetwork(artifact, choose_device("cpu")), seconds)


def _geometry(artifact: Artifact, detector: str) -> CropGeometry:
    manifest = artifact.manifest
    assert isinstance(manifest, NetworkManifest)
    if detector not in manifest.crop:
        raise BadLoad(f"{artifact.spec} has no crop geometry for the detector {detector!r}")
    crop = manifest.crop[detector]
    return CropGeometry(crop.scale, crop.dx, crop.dy)


def _write(bench: Bench, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.cases_json(bench.results), encoding="utf-8")
    more, drawn = file.with_name(f"{file.stem}-more.json"), file.with_suffix(".png")
    more.write_text(report.more_json(bench), encoding="utf-8")
    picture.draw(bench.results, drawn)
    print(f"Written: {file}, {more}, {drawn}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser("bench", __doc__)
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="S", help="of each measurement (5)")
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N",
                        help="floor and service in turn; the round of the middle ratio is shown (3)")  # fmt: skip
    parser.add_argument("--cases", type=_cases, default=CASES, metavar="A,B,...",
                        help=f"only these of {', '.join(case.name for case in CASES)}")  # fmt: skip
    parser.add_argument("--max-load", type=float, default=_MAX_LOAD_PERCENT, metavar="PERCENT",
                        help="CPU use of the machine over which nothing is measured (%(default)g)")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="exit status 1 where a goal is not met")
    parser.add_argument("--markdown", action="store_true", help="print the table again, for a page")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), metavar="FILE",
                        help="of the cases; the rest is written beside it (%(default)s)")  # fmt: skip
    return parser


def _rounds(text: str) -> int:
    if not text.isdecimal() or not int(text) % 2:
        raise argparse.ArgumentTypeError(f"not an odd number of rounds: {text!r}")
    return int(text)


def _cases(text: str) -> Sequence[Case]:
    try:
        return choose(text)
    except BadLoad as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
