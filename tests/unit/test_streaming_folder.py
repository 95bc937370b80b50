"""``timeconv stream FOLDER --out OUT``: a set of results for each clip, whole or not there."""

import asyncio
import json
import os
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from loadtest.clips import write_clip
from service import protocol
from service.cli import app
from service.streaming import NAMES, FolderRequest, StreamError, StreamRequest, Summary, Sweep, stream_all
from service.streaming import folder as folder_module
from tests.client.fake_server import Script, Talk, answer_every_frame, fake_server, prediction

FRAMES = 6
TABLES = frozenset({"csv", "jsonl", "summary"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips, one in a folder of its own, beside files that are none."""
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    write_clip(folder / "b.avi", FRAMES)
    write_clip(folder / "more" / "a.AVI", FRAMES)
    (folder / "notes.txt").write_text("no clip")
    (folder / ".hidden.mp4").write_text("no clip")
    os.mkfifo(folder / "pipe.mp4")
    return folder


def sweep(
    folder: Path,
    script: Script = answer_every_frame,
    lines: list[str] | None = None,
    *,
    jobs: int = 1,
    **options: object,
) -> Sweep:
    """Stream a folder to a server that follows ``script``."""
    again = bool(options.pop("again", False))

    async def bounded() -> Sweep:
        async with asyncio.timeout(20), fake_server(script) as url:
            each = StreamRequest(clip=str(folder), url=url, **options)  # type: ignore[arg-type]
            request = FolderRequest(source=folder, out=out_of(folder), each=each, wanted=TABLES, again=again, jobs=jobs)
            return await stream_all(request, ([] if lines is None else lines).append)

    return asyncio.run(bounded())


def out_of(folder: Path) -> Path:
    """Where its results go: a folder in it, which is not searched."""
    return folder / "results"


def states(swept: Sweep) -> dict[str, str]:
    """What became of each clip."""
    return {end.name: end.state for end in swept.ends}


def files_in(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_clip_has_its_results(folder: Path, jobs: int) -> None:
    """All clips, those in folders too, have a folder of results by their name; the table has them in order."""
    lines: list[str] = []
    write_clip(folder / "old.avi", FRAMES)
    out_of(folder).mkdir()
    (folder / "old.avi").rename(out_of(folder) / "old.avi")
    swept = sweep(folder, lines=lines, jobs=jobs)
    (out_of(folder) / "old.avi").unlink()
    assert states(swept) == {"b.avi": "done", "more/a.AVI": "done"}
    names = {NAMES[option] for option in TABLES} | {"made_from.json"}
    assert files_in(out_of(folder)) == {f"{clip}/{name}" for clip in states(swept) for name in names}
    assert json.loads((out_of(folder) / "b.avi" / "summary.json").read_text())["frames_sent"] == FRAMES
    assert [line.split() for line in str(swept).splitlines()] == [
        ["clip", "length", "frames", "face", "emotions"],
        ["b.avi", "0.2", "s", "6", "100%", "happy", "100%", "done"],
        ["more/a.AVI", "0.2", "s", "6", "100%", "happy", "100%", "done"],
    ]
    assert sorted(lines) == ["done          b.avi", "done          more/a.AVI"]


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    """A second run skips what is done, and shows its figures; with ``again``, or asked otherwise, it is done anew."""
    sweep(folder)
    swept = sweep(folder)
    assert set(states(swept).values()) == {"done already"}
    assert "happy 100%" in str(swept)
    assert set(states(sweep(folder, again=True)).values()) == {"done"}
    assert set(states(sweep(folder, stride=2)).values()) == {"done"}
    write_clip(folder / "b.avi", FRAMES + 1)
    assert states(sweep(folder, stride=2)) == {"b.avi": "done", "more/a.AVI": "done already"}


def test_results_cut_short_do_not_count(folder: Path) -> None:
    """What a run that was killed left behind is done anew, and nothing of it stays."""
    partial = out_of(folder) / ".b.avi.partial"
    partial.mkdir(parents=True)
    (partial / "frames.csv").write_text("half")
    assert states(sweep(folder))["b.avi"] == "done"
    assert not partial.exists()


def test_a_bad_file_does_not_stop_the_others(folder: Path) -> None:
    """A file that is no video fails by name, leaves nothing, and the rest is done."""
    (folder / "a.mp4").write_text("not a video")
    swept = sweep(folder)
    assert states(swept) == {"a.mp4": "FAILED", "b.avi": "done", "more/a.AVI": "done"}
    assert [(end.name, "can read no video" in end.reason) for end in swept.failed] == [("a.mp4", True)]
    assert not any(path.name.startswith((".a.mp4", "a.mp4")) for path in out_of(folder).iterdir())


@pytest.mark.parametrize("name", [b"\xff.avi", b"n" * 246 + b".avi"])
def test_a_name_that_cannot_be_used_does_not_stop_the_others(folder: Path, name: bytes) -> None:
    """A name that is no text, or leaves no room for those made of it, fails its own clip only."""
    write_clip(folder / "b.avi", FRAMES)
    (folder / "more" / "a.AVI").rename(folder / os.fsdecode(name))
    swept = sweep(folder)
    assert sorted(states(swept).values()) == ["FAILED", "done"]
    assert swept.stopped_by is None
    assert str(swept).isascii()


def test_a_name_of_several_lines(folder: Path) -> None:
    """It has one line of the table, and the terminal is told nothing by it."""
    (folder / "b.avi").rename(folder / "b\n\x1b[31m.avi")
    lines: list[str] = []
    swept = sweep(folder, lines=lines)
    assert states(swept) == {r"b\n\x1b[31m.avi": "done", "more/a.AVI": "done"}
    assert len(str(swept).splitlines()) == 3
    assert lines[0] == r"done          b\n\x1b[31m.avi"


def test_what_nobody_foresaw_fails_one_clip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever OpenCV raises for a clip, the next one is tried."""

    async def stream(request: StreamRequest, **_: object) -> Summary:
        if request.clip.endswith("b.avi"):
            raise cv2.error("out of\nmemory")
        return await real(request, show_progress=False)

    real = folder_module.stream
    monkeypatch.setattr(folder_module, "stream", stream)
    swept = sweep(folder)
    assert states(swept) == {"b.avi": "FAILED", "more/a.AVI": "done"}
    assert swept.failed[0].reason == r"error: out of\nmemory"


def test_a_session_that_breaks_fails_one_clip(folder: Path) -> None:
    """A clip whose session broke has no results; the next one is tried."""
    talks: list[Talk] = []

    async def script(talk: Talk) -> None:
        talks.append(talk)
        await talk.start(8, timestamps=True)
        if len(talks) == 1:
            await talk.next()
            await talk.socket.close(1012)
        else:
            await talk.answer_all()

    swept = sweep(folder, script)
    assert states(swept) == {"b.avi": "FAILED", "more/a.AVI": "done"}
    assert not (out_of(folder) / "b.avi").exists()


def test_a_service_that_refuses_stops_the_run(folder: Path) -> None:
    """Where no session can be had the other clips are not tried, and the reason is told once."""

    async def script(talk: Talk) -> None:
        await talk.say(protocol.ErrorMessage(code="unknown_model", message="no such thing", retryable=False))
        await talk.socket.close(1008)

    swept = sweep(folder, script)
    assert states(swept) == {"b.avi": "FAILED", "more/a.AVI": "not tried"}
    assert swept.stopped_by is not None
    assert swept.stopped_by.exit_code == 2


def test_stopping_a_run(folder: Path) -> None:
    """A run that is cancelled ends its session in order and leaves no half results; what was done stays done."""

    async def test() -> Sweep:
        second = asyncio.Event()
        talks: list[Talk] = []

        async def script(talk: Talk) -> None:
            talks.append(talk)
            await talk.start(2, timestamps=True)
            if len(talks) == 1:
                await talk.answer_all()
            else:
                assert [await talk.next(), await talk.next()] == [0, 1]
                second.set()
                assert await talk.next() == {"type": "session.close"}
                for seq in (0, 1):
                    await talk.say(prediction(seq))
                await talk.finish()

        async with asyncio.timeout(20), fake_server(script) as url:
            each = StreamRequest(clip=str(folder), url=url)
            request = FolderRequest(source=folder, out=out_of(folder), each=each, wanted=TABLES, jobs=1)
            running = asyncio.create_task(stream_all(request, [].append))
            await second.wait()
            running.cancel()
            return await running

    swept = asyncio.run(test())
    assert swept.interrupted
    assert states(swept) == {"b.avi": "done", "more/a.AVI": "interrupted"}
    assert {path.name for path in out_of(folder).rglob("*") if path.is_dir()} == {"b.avi", "more"}


def test_something_else_by_the_name_of_the_results(folder: Path) -> None:
    """A folder that is no result of ours is not overwritten."""
    (out_of(folder) / "b.avi").mkdir(parents=True)
    swept = sweep(folder, again=True)
    assert states(swept)["b.avi"] == "FAILED"
    assert "is no result of this command" in swept.failed[0].reason


def test_results_beside_the_clips(folder: Path) -> None:
    """Results cannot go where the clips are: they would have the clips' names."""
    request = FolderRequest(source=folder, out=folder, each=StreamRequest(clip=str(folder)))
    with pytest.raises(StreamError, match="another folder") as failed:
        asyncio.run(stream_all(request))
    assert failed.value.exit_code == 2


def test_results_of_before_are_no_clips(folder: Path) -> None:
    """What another run made of a clip is passed over, wherever it lies: its video shows what was read already."""
    results = folder / "of before" / "b.avi"
    results.mkdir(parents=True)
    (results / "made_from.json").write_text("{}")
    (results / "video.mp4").write_text("of before")
    assert {end.name for end in sweep(folder).ends} == {"b.avi", "more/a.AVI"}


@pytest.mark.parametrize("source", ["-", "0", "gone.mp4"])
def test_what_is_no_file(tmp_path: Path, source: str) -> None:
    """Results by file are of files: a pipe, a camera, or what is not there is a wrong argument."""
    request = FolderRequest(source=Path(source), out=tmp_path, each=StreamRequest(clip=source))
    with pytest.raises(StreamError, match=f"--out takes a video file, or a folder of them, not {source}") as failed:
        asyncio.run(stream_all(request))
    assert failed.value.exit_code == 2


def test_a_folder_without_clips(tmp_path: Path) -> None:
    """A folder in which there is no video is a wrong argument."""
    request = FolderRequest(source=tmp_path, out=tmp_path / "out", each=StreamRequest(clip=str(tmp_path)))
    with pytest.raises(StreamError, match="No video in"):
        asyncio.run(stream_all(request))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clip.avi", "--again"], "go with --out"),
        (["clip.avi", "--out", "out", "--csv", "a.csv"], "--csv cannot be given beside it"),
        (["clip.avi", "--out", "out", "--without", "sound"], "--without takes csv"),
        (["clip.avi", "--every", "--max-age-ms", "100"], "--every and --out drop none"),
        (["clip.avi", "--faces", "9"], "--faces"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], words: str) -> None:
    """What makes no sense together is refused, in words."""
    answer = CliRunner().invoke(app, ["stream", *arguments])
    assert answer.exit_code == 2
    assert words in " ".join(answer.output.replace("│", "").split())


def test_the_command_fails_if_a_clip_did(folder: Path) -> None:
    """Without a service the command says so once, prints the table, and exits with 1."""
    arguments = ["stream", str(folder), "--out", str(out_of(folder)), "--url", "http://127.0.0.1:9", "--jobs", "1"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert answer.output.count("Start a service with `timeconv serve`") == 1
    assert "more/a.AVI" in answer.output
    assert "2 of 2 videos have no results" in answer.output
