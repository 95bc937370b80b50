"""A run as JSON, and as tables for a terminal or a page.

``bench.json`` is a list, an object a case (times in microseconds of CPU time a prediction):

- ``case``, ``floor_us``, ``service_us``, ``ratio``, ``ratio_without_following``
- ``parts_us``: the floor's addends ``echo``, ``decode``, ``crop``, ``network`` and ``detect``; and ``follow`` and
  ``metrics``, which are no part of it
- ``without_following``: ``floor_us``, ``service_us`` and ``parts_us`` of that ratio; null where no face is searched
- ``detector_rate``, ``detector_run_us``, ``network_batch``, ``max_difference``
- ``cores``, ``predictions_per_s``, ``total_ms``, ``batches``: as `loadtest.bench.floor.Served`

``bench-more.json`` has what is of no case, as `loadtest.bench.floor.Bench`, and ``goals``.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from loadtest.bench.cases import FULL_FRAME
from loadtest.bench.floor import WHOLE, Bench, Result

COLUMNS = (
    "case", "echo", "decode", "crop", "network", "detect", "floor us", "service us", "ratio", "ratio w/o following",
    "cores", "pred/s", "p50 ms", "p95 ms", "p99 ms", "batch", ">1", "max diff",
)  # fmt: skip


def cases_json(results: Sequence[Result]) -> str:
    """The text of ``bench.json``."""
    return _json([_case(result) for result in results])


def more_json(bench: Bench) -> str:
    """The text of ``bench-more.json``."""
    content = {field.name: getattr(bench, field.name) for field in dataclasses.fields(bench) if field.name != "results"}
    content["mosec"] = bench.mosec and dataclasses.asdict(bench.mosec)
    content["paper"] = {network: dataclasses.asdict(paper) for network, paper in bench.paper.items()}
    goals = [{"goal": goal, "met": met} for goal, met in bench.goals()]
    return _json(content | {"times_less_than_paper": bench.times_less, "goals": goals})


def row(result: Result) -> tuple[str, ...]:
    """The cells of `COLUMNS`."""
    served = result.served
    return (
        result.case,
        *(f"{us:.0f}" for us in result.floor.values()),
        f"{result.floor_us:.0f}",
        f"{served.us:.0f}",
        f"{result.ratio:.2f}",
        f"{result.ratio_without_following:.2f}",
        f"{served.cores:.2f}",
        f"{served.predictions_per_s:.0f}",
        *(f"{ms:.1f}" for ms in served.total_ms.values()),
        f"{served.batches['mean']:.1f}",
        f"{served.batches['over_one']:.0%}",
        f"{result.max_difference:.0e}" if result.max_difference else "0",
    )


def line(cells: Sequence[str]) -> str:
    """A row for a terminal."""
    first, *others = cells
    return " ".join(
        [f"{first:<22}", *(f"{cell:>{max(6, len(name))}}" for name, cell in zip(COLUMNS[1:], others, strict=True))]
    )


def sentences(bench: Bench) -> Iterator[str]:
    """What is of no case, and which goals are met."""
    for network, paper in bench.paper.items():
        yield f"the paper's pipeline, {network} at {FULL_FRAME}: {paper.us:.0f} us a frame, a face in {paper.found:.0%}"
        if network in bench.times_less:
            yield f"the service, {network} at {FULL_FRAME}: {bench.times_less[network]:.1f} times less CPU than that"
    if bench.mosec is None:
        yield "mosec is not installed (extra `benchmark`), so it was not measured"
    else:
        yield f"mosec, windows for {WHOLE}: {bench.mosec.us:.0f} us a prediction, {bench.mosec.predictions_per_s:.0f}/s"
    for goal, met in bench.goals():
        yield f"{'goal met' if met else 'goal NOT MET'}: {goal}"


def markdown(bench: Bench) -> str:
    """The table for a page, with where it comes from."""
    made_by = bench.made_by
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(row(result)) + " |" for result in bench.results]
    origin = f"`{made_by['command']}`, {made_by['processor']}, {made_by['date']}, commit {made_by['commit']}."
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences(bench)), "", origin])


def _case(result: Result) -> dict[str, Any]:
    served, detecting = result.served, result.detecting
    without = detecting and {
        "floor_us": sum(result.floor_without_following.values()),
        "service_us": detecting.us,
        "parts_us": result.floor_without_following,
    }
    return {
        "case": result.case,
        "floor_us": result.floor_us,
        "service_us": served.us,
        "ratio": result.ratio,
        "ratio_without_following": result.ratio_without_following,
        "parts_us": {**result.floor, "follow": result.parts.follow, "metrics": result.parts.metrics},
        "without_following": without,
        "detector_rate": served.detector_rate,
        "detector_run_us": result.parts.following.detect,
        "network_batch": result.parts.network_batch,
        "max_difference": result.max_difference,
        "cores": served.cores,
        "predictions_per_s": served.predictions_per_s,
        "total_ms": served.total_ms,
        "batches": served.batches,
    }


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
