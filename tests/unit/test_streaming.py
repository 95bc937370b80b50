"""``timeconv stream``: every frame sent has a row, the summary adds up, and each way to fail says what to do."""

import asyncio
import csv
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from service import protocol
from service.protocol import Outcome
from service.streaming import StreamError, StreamRequest, Summary, stream, stream_clip
from service.streaming.frame import ClipFrame
from service.streaming.recorder import Recorder
from service.streaming.tables import columns
from tests.client.fake_server import LABELS, Script, Talk, answer_every_frame, fake_server, frame, prediction
from timeconv_client import FrameOutcome, FramesOutcome, Prediction, parse_message

FRAMES = 12
FPS = 50.0
COLUMNS = tuple(columns(LABELS, timing=False))
SIDES = ("10.00", "12.00", "40.00", "40.00", "0.9700")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of a disc that wanders."""
    path = tmp_path / "disc.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (64, 48))
    for index in range(FRAMES):
        picture = np.full((48, 64, 3), 40, np.uint8)
        writer.write(cv2.circle(picture, (10 + 3 * index, 24), 8, (0, 200, 255), -1))
    writer.release()
    return path


def run(task: Coroutine[Any, Any, Summary]) -> Summary:
    """Run to the end; whatever hangs is a failure."""

    async def bounded() -> Summary:
        async with asyncio.timeout(20):
            return await task

    return asyncio.run(bounded())


async def stream_to(script: Script, clip: Path, lines: list[str] | None = None, **options: Any) -> Summary:
    """Stream ``clip`` to a server that follows ``script``."""
    async with fake_server(script) as url:
        return await stream(StreamRequest(clip=str(clip), url=url, **options), ([] if lines is None else lines).append)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, whose header must be the promised one."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return rows


def test_columns() -> None:
    """The columns of the CSV file are those the documentation promises."""
    assert ",".join(COLUMNS) == (
        "frame,t_s,outcome,face_id,state,emotion,probability,uncertain,"
        "angry,disgust,fear,happy,sad,surprise,neutral,x,y,w,h,score"
    )
    assert tuple(columns(LABELS, timing=True))[-4:] == ("age_ms", "total_ms", "round_trip_ms", "batch_size")


def test_every_frame_is_sent_and_answered(clip: Path) -> None:
    """With every, each frame of the clip is sent and answered, and the summary adds up."""
    summary = run(stream_to(answer_every_frame, clip, every=True))

    assert summary.model == "timeconv-mini-xception@1"
    assert (summary.frames_read, summary.frames_sent, summary.frames_not_sent) == (FRAMES, FRAMES, 0)
    assert summary.outcomes == {"prediction": FRAMES}
    assert summary.emotions == {"happy": FRAMES}
    assert (summary.unanswered, summary.unexpected, summary.interrupted) == (0, 0, False)
    assert summary.totals is not None
    assert summary.totals.received == FRAMES
    assert summary.agrees
    assert summary.total_ms is not None
    assert (summary.total_ms.median_ms, summary.total_ms.p95_ms) == (3.5, 3.5)
    assert "happy 100.0%" in str(summary)
    assert "sent = received = sum of outcomes" in str(summary)


def test_what_is_sent(clip: Path) -> None:
    """Frames are JPEG of the clip's size, stamped with the clip's own time, and the options reach the service."""
    talks: list[Talk] = []

    async def script(talk: Talk) -> None:
        talks.append(talk)
        await talk.start(8, timestamps=True)
        await talk.answer_all()

    run(stream_to(script, clip, every=True, model="m@2", region="whole", stride=3, quality=95))

    stamps, pictures = zip(*map(protocol.split_timestamp, talks[0].frames), strict=True)
    assert list(stamps) == [round(index * 1e6 / FPS) for index in range(FRAMES)]
    assert {simplejpeg.decode_jpeg_header(picture)[:2] for picture in pictures} == {(48, 64)}
    disc = simplejpeg.decode_jpeg(pictures[0], colorspace="BGR")[24, 10].astype(int)
    assert np.abs(disc - (0, 200, 255)).max() < 30
    query = talks[0].path.partition("?")[2]
    assert set(query.split("&")) == {
        "model=m%402",
        "region=whole",
        "freshness=every",
        "timestamps=1",
        "stride=3",
    }


def test_live_frames_without_credit_are_not_sent(clip: Path, tmp_path: Path) -> None:
    """At the clip's own speed a frame that finds no credit is counted as not sent; nothing waits for it."""

    async def script(talk: Talk) -> None:
        await talk.start(2, timestamps=True)
        assert await talk.next() == 0
        assert await talk.next() == 1
        assert await talk.next() == {"type": "session.close"}
        await talk.say(protocol.FramesOutcome(first=0, last=1, outcome=Outcome.SUPERSEDED))
        await talk.finish()

    summary = run(stream_to(script, clip, csv=tmp_path / "out.csv"))

    assert [row["outcome"] for row in rows_of(tmp_path / "out.csv")] == ["superseded"] * 2 + ["not_sent"] * 10
    assert (summary.frames_read, summary.frames_sent, summary.frames_not_sent) == (FRAMES, 2, FRAMES - 2)
    assert summary.outcomes == {"superseded": 2}
    assert summary.agrees
    assert summary.wall_s >= (FRAMES - 1) / FPS
    assert "10 not sent" in str(summary)


def test_little_waits_to_be_written(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While so many frames have no result that is written, no more are sent, whatever the credit."""
    monkeypatch.setattr("service.streaming.run.MOST_UNWRITTEN", 3)

    async def script(talk: Talk) -> None:
        await talk.start(8, timestamps=True)
        for seq in range(3):
            assert await talk.next() == seq
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(talk.next(), 0.1)
        await talk.say(protocol.FramesOutcome(first=0, last=2, outcome=Outcome.NO_FACE))
        await talk.answer_all()

    assert run(stream_to(script, clip, every=True)).agrees


def test_rows_are_in_the_order_sent(clip: Path, tmp_path: Path) -> None:
    """Answers that overtake each other, and ranges, become one row a frame in the order sent."""

    async def script(talk: Talk) -> None:
        await talk.start(FRAMES, timestamps=True)
        for seq in range(FRAMES):
            assert await talk.next() == seq
        await talk.say(protocol.FramesOutcome(first=3, last=FRAMES - 1, outcome=Outcome.RATE_LIMITED))
        await talk.say(frame(1, Outcome.NO_FACE))
        await talk.say(prediction(2, "sad"))
        await talk.say(frame(0, Outcome.WINDOW_FILLING))
        await talk.next()
        await talk.finish()

    lines: list[str] = []
    run(stream_to(script, clip, lines, every=True, csv=tmp_path / "out.csv"))

    rows = rows_of(tmp_path / "out.csv")
    assert [row["frame"] for row in rows] == [str(seq) for seq in range(FRAMES)]
    assert [row["outcome"] for row in rows] == ["window_filling", "no_face", "prediction"] + ["rate_limited"] * 9
    assert [row["t_s"] for row in rows[:3]] == ["0.000000", "0.020000", "0.040000"]
    assert rows[2] == dict(
        zip(
            COLUMNS,
            (
                *("2", "0.040000", "prediction", "1", "ready", "sad", "0.8800", "0"),
                *("0.0200", "0.0200", "0.0200", "0.0200", "0.8800", "0.0200", "0.0200"),
                *SIDES,
            ),
            strict=True,
        )
    )
    assert set(rows[1].values()) == {"1", "0.020000", "no_face", ""}
    assert lines[1:3] == ["    0.020 s  no_face", "    0.040 s  prediction      sad       0.88"]


def test_a_summary_of_a_run_that_was_not_as_it_should_be(clip: Path) -> None:
    """An outcome of no frame makes the check fail; a run that was stopped, by whom ever, is not short."""
    summary = run(stream_to(answer_every_frame, clip, every=True))
    assert summary.agrees
    assert not replace(summary, unexpected=1).agrees
    assert not replace(summary, unanswered=1).agrees
    short = replace(summary, frames_read=FRAMES - 1)
    assert (short.is_short, replace(short, interrupted=True).is_short, summary.is_short) == (True, False, False)
    assert not replace(short, totals=None).is_short


def test_quiet(clip: Path) -> None:
    """Quiet prints no line per frame."""
    lines: list[str] = []

    run(stream_to(answer_every_frame, clip, lines, every=True, quiet=True))

    assert lines == []


def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    """A picture file is streamed as one frame."""
    path = tmp_path / "face.jpg"
    cv2.imwrite(str(path), np.full((40, 40, 3), 128, np.uint8))

    assert run(stream_to(answer_every_frame, path)).frames_sent == 1


def test_stopping_early(clip: Path, tmp_path: Path) -> None:
    """A run that is cancelled sends no more, gets the answers due, closes in order and returns complete rows."""

    async def test() -> Summary:
        sent, answer = asyncio.Event(), asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.start(3, timestamps=True)
            assert [await talk.next() for _ in range(3)] == [0, 1, 2]
            sent.set()
            assert await talk.next() == {"type": "session.close"}
            await answer.wait()
            for seq in range(3):
                await talk.say(prediction(seq))
            await talk.finish()

        run_of_clip = asyncio.create_task(stream_to(script, clip, every=True, csv=tmp_path / "out.csv"))
        await sent.wait()
        run_of_clip.cancel()
        answer.set()
        return await run_of_clip

    summary = run(test())

    assert summary.interrupted
    assert (summary.frames_sent, summary.unanswered, summary.agrees) == (3, 0, True)
    assert "interrupted" in str(summary)
    assert [row["outcome"] for row in rows_of(tmp_path / "out.csv")] == ["prediction"] * 3


@pytest.mark.usefixtures("heeded_interrupt")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c(clip: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C ends the command's run in order, as SIGTERM does: complete rows and a summary."""

    async def script(talk: Talk) -> None:
        await talk.start(4, timestamps=True)
        assert [await talk.next() for _ in range(4)] == [0, 1, 2, 3]
        signal.pthread_kill(threading.main_thread().ident or 0, number)
        assert await talk.next() == {"type": "session.close"}
        await talk.say(protocol.FramesOutcome(first=0, last=3, outcome=Outcome.NO_FACE))
        await talk.finish()

    with served_from_a_thread(script) as url:
        summary = stream_clip(StreamRequest(clip=str(clip), url=url, every=True, csv=tmp_path / "out.csv", quiet=True))

    assert (summary.interrupted, summary.agrees) == (True, True)
    assert [row["outcome"] for row in rows_of(tmp_path / "out.csv")] == ["no_face"] * 4


@pytest.mark.usefixtures("heeded_interrupt")
def test_stopped_before_the_session_began(clip: Path) -> None:
    """SIGTERM then ends the run as Ctrl-C does."""

    async def script(talk: Talk) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        await talk.socket.wait_closed()

    with served_from_a_thread(script) as url, pytest.raises(KeyboardInterrupt):
        stream_clip(StreamRequest(clip=str(clip), url=url))


def test_a_session_that_breaks(clip: Path, tmp_path: Path) -> None:
    """When the connection is lost the frames without an answer have rows too, and the error carries the summary."""

    async def script(talk: Talk) -> None:
        await talk.start(4, timestamps=True)
        for seq in range(4):
            assert await talk.next() == seq
        await talk.say(prediction(1))
        await talk.socket.close(1012)

    with pytest.raises(StreamError, match="1012") as failed:
        run(stream_to(script, clip, every=True, csv=tmp_path / "out.csv"))

    assert failed.value.exit_code == 1
    assert "try again" in str(failed.value)
    summary = failed.value.summary
    assert summary is not None
    assert (summary.frames_sent, summary.unanswered, summary.agrees, summary.totals) == (4, 3, False, None)
    outcomes = [row["outcome"] for row in rows_of(tmp_path / "out.csv")]
    assert outcomes == ["unanswered", "prediction", "unanswered", "unanswered"]


def test_totals_that_disagree(clip: Path) -> None:
    """Totals of the service that are not what was answered make the check fail, in words."""

    async def script(talk: Talk) -> None:
        await talk.start(8, timestamps=True)
        while isinstance(seq := await talk.next(), int):
            await talk.say(prediction(seq))
        talk.outcomes[Outcome.PREDICTION] -= 1
        await talk.finish()

    summary = run(stream_to(script, clip, every=True))

    assert not summary.agrees
    assert "FAILED" in str(summary)


def test_outcomes_nobody_waits_for() -> None:
    """An outcome told twice, or of a frame never sent, is counted as unexpected and changes no row."""
    recorder = Recorder()
    recorder.frame_sent(0, ClipFrame(0, 0, b""), 0.0)
    no_face = parse_message(protocol.encode(frame(0, Outcome.NO_FACE)))
    assert isinstance(no_face, FrameOutcome)
    vast = parse_message(protocol.encode(protocol.FramesOutcome(first=0, last=9, outcome=Outcome.SUPERSEDED)))
    assert isinstance(vast, FramesOutcome)

    assert [row.outcome for row in recorder.answered(no_face, 1.0)] == ["no_face"]
    assert recorder.answered(no_face, 1.0) == []
    assert recorder.answered(vast, 1.0) == []

    assert (recorder.unexpected, recorder.outcomes, recorder.unanswered) == (11, {"no_face": 1}, 0)


def test_round_trip() -> None:
    """The round trip of a prediction is from its sending to its answer."""
    recorder = Recorder()
    recorder.frame_sent(0, ClipFrame(0, 0, b""), 10.0)
    answer = parse_message(protocol.encode(prediction(0)))
    assert isinstance(answer, Prediction)

    recorder.answered(answer, 10.25)

    assert recorder.round_trip_ms == [250.0]


# Ways to fail


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    _fails(StreamRequest(clip=str(tmp_path / "gone.mp4")), "No such file: .*gone.mp4", 2)


def test_a_directory(tmp_path: Path) -> None:
    """A directory is not taken for a clip."""
    _fails(StreamRequest(clip=str(tmp_path)), "is a directory", 2)


def test_not_a_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is no video is said to be none, without OpenCV's own complaints."""
    path = tmp_path / "notes.mp4"
    path.write_text("not a video\n" * 100)

    _fails(StreamRequest(clip=str(path)), "OpenCV can read no video in .*notes.mp4", 2)

    assert "cap" not in capfd.readouterr().err


def test_no_camera() -> None:
    """A camera that is not there is named by its index."""
    _fails(StreamRequest(clip="97"), "Camera 97 gives no picture", 2)


def test_no_server(clip: Path) -> None:
    """Where nothing listens the message says how to start a service."""
    _fails(StreamRequest(clip=str(clip), url="ws://127.0.0.1:9"), "(?s)Cannot connect to .*timeconv serve.*--url", 1)


def test_a_bad_address(clip: Path) -> None:
    """An address that is none is a wrong argument."""
    _fails(StreamRequest(clip=str(clip), url="localhost:8000"), "Not an address", 2)


def test_a_bad_quality(clip: Path) -> None:
    """A quality out of range is a wrong argument."""
    with pytest.raises(StreamError, match="1 to 100") as failed:
        StreamRequest(clip=str(clip), quality=0)
    assert failed.value.exit_code == 2


@pytest.mark.parametrize(
    ("code", "words", "exit_code"),
    [
        ("unknown_model", "timeconv models", 2),
        ("bad_option", "no such thing", 2),
        ("model_damaged", "no such thing", 1),
    ],
)
def test_a_refused_session(clip: Path, tmp_path: Path, code: str, words: str, exit_code: int) -> None:
    """A session the service refuses is explained in its words, and leaves an existing CSV file as it was."""
    path = tmp_path / "out.csv"
    path.write_text("of last time")

    async def script(talk: Talk) -> None:
        await talk.say(protocol.ErrorMessage(code=code, message="no such thing", retryable=False))
        await talk.socket.close(1008)

    with pytest.raises(StreamError, match=words) as failed:
        run(stream_to(script, clip, csv=path))

    assert (failed.value.exit_code, failed.value.summary) == (exit_code, None)
    assert path.read_text() == "of last time"


def test_a_csv_file_that_cannot_be_written(clip: Path, tmp_path: Path) -> None:
    """A CSV file in no directory is a wrong argument."""
    with pytest.raises(StreamError, match=r"Cannot write .*out\.csv: No such file or directory") as failed:
        run(stream_to(answer_every_frame, clip, csv=tmp_path / "gone" / "out.csv"))
    assert failed.value.exit_code == 2


def test_a_summary_that_cannot_be_written(clip: Path, tmp_path: Path) -> None:
    """That a summary cannot be written is said before the clip is streamed, not after."""
    talks: list[Talk] = []

    async def script(talk: Talk) -> None:
        talks.append(talk)
        await talk.start(8, timestamps=True)
        await talk.answer_all()

    with pytest.raises(StreamError, match=r"Cannot write .*s\.json") as failed:
        run(stream_to(script, clip, every=True, summary=tmp_path / "gone" / "s.json"))
    assert (failed.value.exit_code, talks[0].frames) == (2, [])


def test_names_that_are_no_text(clip: Path, tmp_path: Path) -> None:
    """OpenCV crashes on a name that is not UTF-8: such a clip, and such a result, is refused."""
    odd = tmp_path / os.fsdecode(b"\xff.avi")
    clip.rename(odd)
    _fails(StreamRequest(clip=str(odd)), r"name in UTF-8: .*\\udcff\.avi", 2)
    with pytest.raises(StreamError, match="name in UTF-8"):
        StreamRequest(clip="talk.avi", video=odd)


def test_a_full_disk(clip: Path) -> None:
    """An error while rows are written ends the run with that error; nothing hangs."""
    with pytest.raises(StreamError, match="Cannot write /dev/full: No space left"):
        run(stream_to(answer_every_frame, clip, every=True, csv=Path("/dev/full")))


def _fails(request: StreamRequest, words: str, exit_code: int) -> None:
    with pytest.raises(StreamError, match=words) as failed:
        stream_clip(request)
    assert failed.value.exit_code == exit_code


@contextmanager
def served_from_a_thread(script: Script) -> Iterator[str]:
    """The fake server beside a caller that runs an event loop of its own."""
    urls: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with fake_server(script) as url:
            urls.append(url)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield urls[0]
    finally:
        done.set()
        thread.join()


def test_a_service_that_stops(clip: Path, tmp_path: Path) -> None:
    """When the service stops no more is sent, what is in flight is answered, and the user is told to try again."""

    async def script(talk: Talk) -> None:
        await talk.start(4, timestamps=True)
        assert [await talk.next() for _ in range(4)] == [0, 1, 2, 3]
        await talk.say(protocol.GoAway(time_left_ms=500))
        assert await talk.next() == {"type": "session.close"}
        await talk.say(protocol.FramesOutcome(first=0, last=3, outcome=Outcome.NO_FACE))
        await talk.finish()

    with pytest.raises(StreamError, match=r"The service stops\nIt may pass: try again") as failed:
        run(stream_to(script, clip, every=True, csv=tmp_path / "out.csv"))

    summary = failed.value.summary
    assert summary is not None
    assert (summary.frames_sent, summary.unanswered, summary.agrees) == (4, 0, True)
    assert [row["outcome"] for row in rows_of(tmp_path / "out.csv")] == ["no_face"] * 4
