"""A run that tests begin from."""

import dataclasses
from typing import Any

from loadtest.bench.floor import Bench, Mosec, Paper, Result, Served
from loadtest.bench.parts import Parts, Vision

SERVED = Served(
    us=460.0,
    cores=1.5,
    predictions_per_s=3000.0,
    detector_rate=0.125,
    total_ms={"p50": 20.0, "p95": 30.0, "p99": 40.0},
    batches={"mean": 6.0, "over_one": 0.9},
)
PARTS = Parts(
    following=Vision(decode=100.0, crop=30.0, detect=800.0),
    detecting=Vision(decode=300.0, crop=40.0, detect=1000.0),
    follow=50.0,
    network=150.0,
    network_batch=8,
    metrics=5.0,
)
DETECT = Result(
    case="mini-xception/640x480",
    echo_us=20.0,
    parts=PARTS,
    served=SERVED,
    detecting=dataclasses.replace(SERVED, us=1661.0, detector_rate=1.0),
    max_difference=0.0,
)
WHOLE = Result(
    case="mini-xception/whole96",
    echo_us=10.0,
    parts=dataclasses.replace(
        PARTS,
        following=Vision(decode=50.0, crop=30.0, detect=0.0),
        detecting=Vision(decode=50.0, crop=30.0, detect=0.0),
    ),
    served=dataclasses.replace(SERVED, us=252.0, detector_rate=0.0),
    detecting=None,
    max_difference=2e-6,
)


def bench(**changes: Any) -> Bench:
    """A run of two cases, one of which misses its ratio, with changes."""
    orderly = Bench(
        made_by={"command": "make bench", "commit": "abc", "date": "2026-11-23", "processor": "a processor"},
        load_percent=1.0,
        results=(WHOLE, DETECT),
        paper={"mini-xception": Paper(us=46_000.0, found=1.0)},
        mosec=Mosec(us=280.0, predictions_per_s=3500.0),
        idle_percent=0.2,
    )
    return dataclasses.replace(orderly, **changes)
