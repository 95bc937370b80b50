"""``make bench``: what one prediction costs the service, beside what its parts cost alone, in one run.

A service is started as a process of its own; 1 and then 8 clients stream a clip through it in `every`, as fast as it
answers. Printed, and written to ``build/bench.json``: a list of {case, clients, frames_per_s, service_us, parts_us,
total_ms, batches, max_difference}. ``service_us`` is CPU time of the server process (all threads) per prediction;
``parts_us`` are decode, detect, crop and the network at batch 8, each alone in this process, one thread.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from loadtest.clips import encoded, moving_face
from loadtest.servers import started
from service.cli import read_settings
from service.engine import open_detector
from service.inference.artifact import ModelStore
from service.inference.device import choose_device
from service.inference.runner import OnnxNetwork
from service.vision.crop import CropGeometry, crop_face
from service.vision.decode import decode_gray
from timeconv_client import Prediction, connect

SIZES = ((320, 240), (640, 480))
CLIENTS = (1, 8)
CLIP_FRAMES = 60
_MEASURE_S = 0.5
_MAX_PIXELS = 4_200_000


@dataclass(frozen=True)
class Case:
    """Figures of one picture size and number of clients; times as the module says."""

    case: str
    clients: int
    frames_per_s: float
    service_us: float
    parts_us: dict[str, float]
    total_ms: dict[str, float]
    batches: dict[str, float]
    max_difference: float


def main() -> int:
    """Run all cases, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each case is measured")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    arguments = parser.parse_args()
    cases = []
    print(f"{'case':16} {'frames/s':>9} {'service us':>11} {'parts us':>9}", end="")
    print(f" {'p50 ms':>8} {'p99 ms':>8} {'batch':>6} {'>1':>5}")
    for size in SIZES:
        clip = encoded(moving_face(CLIP_FRAMES, size))
        parts_us = measure_parts(clip[0])
        with started("service.cli", "serve", "--port", "0") as server:
            alone: list[dict[int, list[float]]] = []
            for clients in CLIENTS:
                case, results = asyncio.run(
                    measure(server.address, clip, clients, arguments.seconds, size, parts_us, alone)
                )
                alone = alone or results
                cases.append(case)
                print(row(case))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([asdict(case) for case in cases], indent=2) + "\n")
    return 0


def row(case: Case) -> str:
    """A line of the table."""
    return (
        f"{case.case + f' x{case.clients}':16} {case.frames_per_s:9.0f} {case.service_us:11.0f}"
        f" {sum(case.parts_us.values()):9.0f} {case.total_ms['p50']:8.2f} {case.total_ms['p99']:8.2f}"
        f" {case.batches['mean']:6.2f} {case.batches['over_one']:5.0%}"
    )


async def measure(
    address: str,
    clip: list[bytes],
    clients: int,
    seconds: float,
    size: tuple[int, int],
    parts_us: dict[str, float],
    alone: list[dict[int, list[float]]],
) -> tuple[Case, list[dict[int, list[float]]]]:
    """Stream for some seconds; the figures, and each client's probabilities by frame of its first time through."""
    before, start = scrape(address), time.perf_counter()
    results = await asyncio.gather(*(stream(address, clip, start + seconds) for _ in range(clients)))
    elapsed, after = time.perf_counter() - start, scrape(address)
    totals = np.concatenate([total_ms for _, total_ms in results])
    batches = after["batches"] - before["batches"]
    single = after["batches_of_one"] - before["batches_of_one"]
    firsts = [first for first, _ in results]
    return (
        Case(
            case=f"{size[0]}x{size[1]}",
            clients=clients,
            frames_per_s=len(totals) / elapsed,
            service_us=(after["cpu_s"] - before["cpu_s"]) / len(totals) * 1e6,
            parts_us=parts_us,
            total_ms={f"p{q}": float(np.percentile(totals, q)) for q in (50, 95, 99)},
            batches={"mean": (after["windows"] - before["windows"]) / batches, "over_one": 1 - single / batches},
            max_difference=largest_difference(alone or firsts, firsts),
        ),
        firsts,
    )


async def stream(address: str, clip: list[bytes], until: float) -> tuple[dict[int, list[float]], list[float]]:
    """The clip over and over until the time is up: probabilities by frame of the first time, and all total_ms."""
    first: dict[int, list[float]] = {}
    totals: list[float] = []

    async def read() -> None:
        async for event in session:
            if isinstance(event, Prediction):
                totals.append(event.timing_ms.total)
                if event.seq < len(clip):
                    first[event.seq] = list(event.faces[0].probabilities.values())

    async with connect(address, freshness="every") as session:
        reading = asyncio.create_task(read())
        sent = 0
        while sent < len(clip) or time.perf_counter() < until:
            await session.send(clip[sent % len(clip)])
            sent += 1
        await session.close()
        await reading
    return first, totals


def largest_difference(expected: list[dict[int, list[float]]], actual: list[dict[int, list[float]]]) -> float:
    """Largest difference of a probability between a client alone and each of several."""
    reference = expected[0]
    return max(
        float(np.abs(np.array(reference[seq]) - np.array(client[seq])).max()) for client in actual for seq in reference
    )


def scrape(address: str) -> dict[str, float]:
    """CPU seconds of the server and what it says of its batches."""
    with urllib.request.urlopen(f"{address}/metrics") as answer:  # noqa: S310 - our own service
        text = answer.read().decode()
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return {
        "cpu_s": samples["process_cpu_seconds_total", None],
        "batches": samples.get(("timeconv_batch_size_count", None), 0.0),
        "windows": samples.get(("timeconv_batch_size_sum", None), 0.0),
        "batches_of_one": samples.get(("timeconv_batch_size_bucket", "1.0"), 0.0),
    }


def measure_parts(jpeg: bytes) -> dict[str, float]:
    """Microseconds of decode, detect, crop and the network (batch 8, per window), each alone."""
    cv2.setNumThreads(1)
    settings = read_settings()
    store = ModelStore(settings.model_store)
    detector = open_detector(settings, store)
    network = OnnxNetwork(store.find(settings.model, "network"), choose_device("cpu"))
    gray = decode_gray(jpeg, max_bytes=len(jpeg), max_pixels=_MAX_PIXELS)
    box = detector.detect(gray)[0].box
    windows = np.random.default_rng(0).integers(0, 256, (8, 5, 48, 48), np.uint8)
    return {
        "decode": per_call_us(lambda: decode_gray(jpeg, max_bytes=len(jpeg), max_pixels=_MAX_PIXELS)),
        "detect": per_call_us(lambda: detector.detect(gray)),
        "crop": per_call_us(lambda: crop_face(gray, box, CropGeometry())),
        "network": per_call_us(lambda: network(windows)) / len(windows),
    }


def per_call_us(call: Callable[[], object]) -> float:
    """Microseconds of CPU time of one call, averaged over half a second."""
    call()
    calls, start, cpu = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - start < _MEASURE_S:
        call()
        calls += 1
    return (time.thread_time() - cpu) / calls * 1e6


if __name__ == "__main__":
    sys.exit(main())
