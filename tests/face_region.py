"""What sending the face alone saves, and whether it reads the same: clips in real time through Chromium.

``python -m tests.face_region CLIP...`` prints, for whole frames, for the face alone (`FaceSender` of timeconv.js) and
for whole frames once more: bytes and CPU time of the service a frame, and how often the emotion is that of the first
pass, of frames that both answered. The third pass says how far two passes of the same kind agree: the most to expect.

Each clip is scaled to cover 640x480, and shown forwards and backwards at 25 frames/s.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx

from tests.chromium import Browser, Page, chromium

WIDTH, HEIGHT = 640, 480
PASSES = ("whole", "face", "whole again")

PLAY = """(async (asFaces) => {
    const {connect, FaceSender, JpegEncoder} = await import("/page/timeconv.js");
    const stream = connect(location.href), encoder = new JpegEncoder(), answers = {}, outcomes = {};
    const faces = asFaces && new FaceSender(stream);
    let bytes = 0;
    stream.on("prediction", ({message, frame}) => {
        const {emotion, uncertain} = message.faces[0];
        answers[frame.data] = {emotion, uncertain};
    });
    await new Promise((open) => stream.on("started", open));
    const startMs = performance.now(), spanMs = 40;
    for (let i = 0; i < pictures.length; i += 1) {
        const wait = startMs + i * spanMs - performance.now();
        await new Promise((go) => setTimeout(go, Math.max(wait, 0)));
        const about = {capturedUs: Math.round((performance.timeOrigin + startMs + i * spanMs) * 1000), data: i};
        if (faces) faces.trySend(pictures[i], about);
        else if (stream.free) {
            const {jpeg} = await encoder.encode(pictures[i]);
            if (stream.trySend(jpeg, about)) bytes += jpeg.size;
        }
    }
    const seconds = (performance.now() - startMs) / 1000;
    await stream.close();
    const sent = faces && faces.counts;
    return {answers, seconds, counts: stream.counts, faces: sent, bytes: sent ? sent.bytes : bytes};
})"""


@dataclass
class Figures:
    """Sums over the clips of one pass."""

    seconds: float = 0.0
    bytes: int = 0
    cpu_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faces: Counter[str] = field(default_factory=Counter)
    answers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, clip: str, told: dict[str, Any], cpu_s: float) -> None:
        self.seconds += told["seconds"]
        self.bytes += told["bytes"]
        self.cpu_s += cpu_s
        self.outcomes.update(told["counts"]["outcomes"])
        self.faces.update(told["faces"] or {})
        self.answers |= {(clip, frame): answer for frame, answer in told["answers"].items()}


@contextmanager
def service(port: int) -> Iterator[str]:
    """A service in a process of its own, whose CPU time is its alone."""
    command = [str(Path(sys.executable).with_name("timeconv")), "serve", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own command
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8), trust_env=False) as client:
                client.get(f"http://127.0.0.1:{port}/readyz")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def cpu_s(url: str) -> float:
    """CPU seconds that the service has used."""
    text = httpx.get(url + "/metrics", trust_env=False).text
    found = re.search(r"^process_cpu_seconds_total (\S+)", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def frames(clip: Path) -> list[str]:
    """The clip's frames as pictures of 640x480, forwards and backwards, in base64."""
    video, shown = cv2.VideoCapture(str(clip)), []
    while (read := video.read())[0]:
        height, width = read[1].shape[:2]
        scale = max(WIDTH / width, HEIGHT / height)
        scaled = cv2.resize(read[1], (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
        left, top = (scaled.shape[1] - WIDTH) // 2, (scaled.shape[0] - HEIGHT) // 2
        picture = scaled[top : top + HEIGHT, left : left + WIDTH]
        shown.append(b64encode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()).decode())
    return [*shown, *shown[-2:0:-1]]


def load(page: Page, pictures: list[str]) -> None:
    """Have the pictures in the page."""
    page.run(
        f"""(async () => {{
            const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const picture = (text) => createImageBitmap(new Blob([bytes(text)], {{type: "image/jpeg"}}));
            window.pictures = await Promise.all({json.dumps(pictures)}.map(picture));
        }})()"""
    )


def measure(browser: Browser, url: str, clips: list[Path]) -> dict[str, Figures]:
    """Each clip in each pass."""
    passes = {name: Figures() for name in PASSES}
    for clip in clips:
        pictures = frames(clip)
        for name, figures in passes.items():
            with browser.page(url + "/") as page:
                load(page, pictures)
                before_s = cpu_s(url)
                told = page.run(f"{PLAY}({json.dumps(name == 'face')})")
                figures.add(clip.name, told, cpu_s(url) - before_s)
    return passes


def report(passes: dict[str, Figures]) -> None:
    """Print the figures."""
    first = passes[PASSES[0]]
    for name, figures in passes.items():
        answered = sum(figures.outcomes.values())
        both = figures.answers.keys() & first.answers.keys()
        same = sum(figures.answers[frame]["emotion"] == first.answers[frame]["emotion"] for frame in both)
        sure = [frame for frame in both if not first.answers[frame]["uncertain"]]
        same_sure = sum(figures.answers[frame]["emotion"] == first.answers[frame]["emotion"] for frame in sure)
        print(
            f"{name}: {answered} frames in {figures.seconds:.0f} s, {figures.bytes / figures.seconds / 1000:.1f} kB/s,"
            f" {figures.cpu_s / answered * 1000:.2f} ms of CPU a frame; {dict(figures.outcomes)} {dict(figures.faces)}"
        )
        print(f"  emotion as in the first pass: {same} of {len(both)} ({same / len(both):.1%});")
        print(f"  of those the first pass was sure of: {same_sure} of {len(sure)} ({same_sure / len(sure):.1%})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--port", type=int, default=8785)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        service(given.port) as url,
        chromium(Path(folder)) as browser,
    ):
        report(measure(browser, url, given.clips))


if __name__ == "__main__":
    main()
