"""Files through a real service, by the command `timeconv stream`."""

import csv
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from loadtest.clips import encoded, moving_face, write_clip
from service.streaming import FolderRequest, StreamRequest, Summary, stream_clip, stream_folder
from tests.conftest import LiveServer

ROOT = Path(__file__).parents[2]


def streamed(clip: Path, server: LiveServer, **options: object) -> Summary:
    """The summary of a clip streamed in `every`."""
    return stream_clip(StreamRequest(clip=str(clip), url=server.url, every=True, quiet=True, **options))  # type: ignore[arg-type]


def outcomes_in(table: Path) -> list[str]:
    """The outcome of each row of a CSV file."""
    with table.open() as lines:
        return [row["outcome"] for row in csv.DictReader(lines)]


def test_the_same_results_twice(live_server: LiveServer, tmp_path: Path) -> None:
    """A clip alone, and beside others that share its batches, gives the same bytes."""
    write_clip(tmp_path / "clip.avi", 40)
    kinds = {"csv": ".csv", "jsonl": ".jsonl", "timeline": ".svg"}
    files = {
        name: {kind: tmp_path / f"{name}{suffix}" for kind, suffix in kinds.items()}
        for name in ("alone", "first", "second", "third")
    }
    streamed(tmp_path / "clip.avi", live_server, **files["alone"])
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: streamed(tmp_path / "clip.avi", live_server, **files[name]), list(files)[1:]))
    for kind in kinds:
        contents = {results[kind].read_bytes() for results in files.values()}
        assert len(contents) == 1, kind
    assert outcomes_in(files["alone"]["csv"]) == ["window_filling"] * 4 + ["prediction"] * 36


def test_every_result_of_a_folder(live_server: LiveServer, tmp_path: Path) -> None:
    """Each clip of a folder gets all results, and their frames are the clip's; a clip of four frames has no emotion."""
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "long.avi", 12)
    write_clip(tmp_path / "clips" / "short.avi", 4)
    each = StreamRequest(clip=str(tmp_path / "clips"), url=live_server.url)
    wanted = {"csv", "jsonl", "video", "timeline"}
    swept = stream_folder(FolderRequest(source=tmp_path / "clips", out=tmp_path / "out", each=each, wanted=wanted))
    assert swept.failed == []
    assert "no prediction" in str(swept)
    for name, frames in (("long.avi", 12), ("short.avi", 4)):
        results = tmp_path / "out" / name
        assert len(outcomes_in(results / "frames.csv")) == frames
        records = [json.loads(line) for line in (results / "frames.jsonl").read_text().splitlines()]
        assert [record["frame"] for record in records] == list(range(frames))
        capture, pictures = cv2.VideoCapture(str(results / "video.mp4")), 0
        while capture.grab():
            pictures += 1
        assert (pictures, capture.get(cv2.CAP_PROP_FPS)) == (frames, 25)
        assert "<svg" in (results / "timeline.svg").read_text()
        assert json.loads((results / "summary.json").read_text())["agrees"] is True


def test_a_clip_without_a_face(live_server: LiveServer, tmp_path: Path) -> None:
    """Where nobody is every frame says so, and all files are whole."""
    writer = cv2.VideoWriter(str(tmp_path / "wall.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for shade in range(6):
        writer.write(np.full((240, 320, 3), 100 + shade, np.uint8))
    writer.release()
    summary = streamed(
        tmp_path / "wall.avi",
        live_server,
        csv=tmp_path / "wall.csv",
        timeline=tmp_path / "wall.png",
        video=tmp_path / "wall.mp4",
    )
    assert (summary.frames_with_face, summary.emotions) == (0, {})
    assert outcomes_in(tmp_path / "wall.csv") == ["no_face"] * 6


def test_a_clip_larger_than_the_service_takes(live_server: LiveServer, tmp_path: Path) -> None:
    """Pictures of more pixels than the service takes are answered all the same, with boxes in the clip's pixels."""
    write_clip(tmp_path / "large.avi", 6, (2560, 1920))
    write_clip(tmp_path / "small.avi", 6, (640, 480))
    boxes = {}
    for name in ("large", "small"):
        streamed(tmp_path / f"{name}.avi", live_server, jsonl=tmp_path / f"{name}.jsonl")
        last = json.loads((tmp_path / f"{name}.jsonl").read_text().splitlines()[-1])
        assert last["outcome"] == "prediction"
        boxes[name] = np.array(last["faces"][0]["box"])
    np.testing.assert_allclose(boxes["large"], 4 * boxes["small"], atol=0.1 * boxes["large"][2])


@pytest.mark.parametrize("is_damaged", [False, True])
def test_motion_jpeg_on_standard_input(live_server: LiveServer, tmp_path: Path, *, is_damaged: bool) -> None:
    """Pictures on stdin are answered; one that is cut off is said to be corrupt."""
    pictures = b"".join(encoded(moving_face(6)))
    command = [sys.executable, "-m", "service.cli", "stream", "-", "--every", "--fps", "50", "--quiet"]
    files = ["--url", live_server.url, "--csv", str(tmp_path / "t.csv")]
    run = subprocess.run(  # noqa: S603 - our own command
        [*command, *files],
        input=pictures[:-1000] if is_damaged else pictures,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert b"sent = received = sum of outcomes" in run.stdout
    assert outcomes_in(tmp_path / "t.csv") == ["window_filling"] * 4 + [
        "prediction",
        "bad_image" if is_damaged else "prediction",
    ]


def test_a_clip_on_standard_input_is_no_motion_jpeg(live_server: LiveServer, tmp_path: Path) -> None:
    """What stdin brings and is no Motion JPEG is refused in one line, with the command that makes it."""
    write_clip(tmp_path / "clip.avi", 2)
    clip = (tmp_path / "clip.avi").read_bytes().replace(b"\xff\xd8", b"..")
    command = [sys.executable, "-m", "service.cli", "stream", "-", "--url", live_server.url]
    run = subprocess.run(command, input=clip, check=False, capture_output=True, timeout=60)  # noqa: S603 - as above
    assert run.returncode == 2
    assert b"no Motion JPEG" in run.stderr
    assert b"Traceback" not in run.stderr


def test_the_documented_commands(live_server: LiveServer, tmp_path: Path) -> None:
    """The commands of docs/files.md run as they stand there, but for the one that needs ffmpeg."""
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "talk.avi", 8)
    write_clip(tmp_path / "clips" / "talk.avi", 8)
    commands = [
        line.removeprefix(".venv/bin/timeconv ")
        for line in (ROOT / "docs" / "files.md").read_text().splitlines()
        if line.startswith(".venv/bin/timeconv stream")
    ]
    assert len(commands) == 3
    for command in commands:
        program = [sys.executable, "-m", "service.cli", *shlex.split(command), "--url", live_server.url]
        path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
        subprocess.run(program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)  # noqa: S603 - ours
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"talk.avi", "clips", "talk.csv", "talk-seen.mp4", "talk.svg", "talk.json", "results"}
    assert {"frames.csv", "frames.jsonl", "video.mp4", "timeline.svg", "summary.json", "made_from.json"} <= {
        path.name for path in (tmp_path / "results" / "talk.avi").iterdir()
    }
