"""Many clips, each with a folder of results: several at once, going on after a bad one, skipping what is done.

A clip's results are written to a hidden folder, which gets its name when all of them are whole. So what has the name is
done, whatever stopped the run before.
"""

import asyncio
import errno
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from service.streaming.errors import USAGE, ClipError, StreamError, cannot_write, require_utf8
from service.streaming.lines import printable
from service.streaming.request import StreamRequest
from service.streaming.run import run_to_end, stream

SUFFIXES = frozenset(
    [
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    ]
)
NAMES: Mapping[str, str] = {
    "csv": "frames.csv",
    "jsonl": "frames.jsonl",
    "parquet": "frames.parquet",
    "video": "video.mp4",
    "timeline": "timeline.svg",
    "summary": "summary.json",
}
"""Results by the option that asks for one alone."""
_MADE_FROM = "made_from.json"
_DONE, _ALREADY, _FAILED, _INTERRUPTED, _NOT_TRIED = "done", "done already", "FAILED", "interrupted", "not tried"


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderRequest:
    """Clips, and what to make of each.

    Attributes:
        source: a video file, or a folder that is searched for them, with all in it.
        out: folder for the results; a clip's are in a folder of the clip's name, at the clip's place in ``source``.
        each: what is asked of every clip; its own clip and files do not count.
        wanted: keys of `NAMES`; the summary is always written.
        again: do anew what is done.
        jobs: clips at once.
    """

    source: Path
    out: Path
    each: StreamRequest
    wanted: Collection[str] = field(default_factory=lambda: frozenset(NAMES))
    again: bool = False
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class ClipEnd:
    """What became of a clip; ``figures`` is its summary, if there is one."""

    name: str
    state: str
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Sweep:
    """What became of all clips, in order; ``stopped_by`` is what kept the run from trying the rest."""

    ends: list[ClipEnd]
    stopped_by: StreamError | None = None
    interrupted: bool = False

    @property
    def failed(self) -> list[ClipEnd]:
        """Clips without results."""
        return [end for end in self.ends if end.state not in {_DONE, _ALREADY}]

    def __str__(self) -> str:
        """A table of all, for people."""
        lines = [("clip", "length", "frames", "face", "emotions", ""), *map(_cells, self.ends)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def stream_folder(request: FolderRequest) -> Sweep:
    """Stream all clips from the command line; Ctrl-C or SIGTERM ends it; what was not whole is done again next time.

    Raises:
        StreamError: there is no clip, or nothing can be written.
    """
    return run_to_end(stream_all(request))


async def stream_all(request: FolderRequest, write_line: Callable[[str], object] = tqdm.write) -> Sweep:
    """Stream all clips; ``write_line`` gets a line for each.

    Raises:
        StreamError: there is no clip, or nothing can be written.
    """
    clips = list(_clips(request.source, request.out))
    if not clips:
        raise StreamError(f"No video in {request.source}: none of *{', *'.join(sorted(SUFFIXES))}", exit_code=USAGE)
    sweep = Sweep([ClipEnd(printable(str(name)), _NOT_TRIED) for _, name in clips])
    left = iter(enumerate(clips))
    with tqdm(total=len(clips), unit="clip", disable=None, dynamic_ncols=True, leave=False) as bar:

        async def work() -> None:
            # The iterator is shared: who is free takes the next clip.
            for place, (clip, name) in left:
                before = sweep.ends[place]
                end = sweep.ends[place] = await _one(request, sweep, before, clip, name)
                bar.update()
                write_line(f"{end.state:<12}  {end.name}{f': {end.reason}' if end.reason else ''}")
                if sweep.stopped_by is not None or end.state == _INTERRUPTED:
                    return

        tasks = [asyncio.create_task(work(), name=f"timeconv-clips-{number}") for number in range(request.jobs)]
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            sweep.interrupted = True
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return sweep


async def _one(request: FolderRequest, sweep: Sweep, before: ClipEnd, clip: Path, name: Path) -> ClipEnd:
    """Stream one clip, unless that is done; whatever goes wrong is said in its end."""
    try:
        state, figures = await _results(request, clip, name)
        return replace(before, state=state, figures=figures)
    except StreamError as error:
        if error.summary is None and not isinstance(error, ClipError):
            # Without a session no other clip will fare better.
            sweep.stopped_by = error
        reason = str(error).partition("\n")[0]
    except OSError as error:
        failed = cannot_write(request.out / name, error)
        if error.errno != errno.ENAMETOOLONG:
            sweep.stopped_by = failed
        reason = str(failed)
    except Exception as error:  # noqa: BLE001 - who knows what is in a damaged file; the others are to be done
        reason = f"{type(error).__name__}: {error}"
    return replace(before, state=_FAILED, reason=printable(reason))


async def _results(request: FolderRequest, clip: Path, name: Path) -> tuple[str, Mapping[str, Any]]:
    """The clip's new state, and its summary.

    Raises:
        StreamError: it has no results.
        OSError: there is no room for them.
    """
    require_utf8(clip)
    target = request.out / name
    partial = target.with_name(f".{name.name}.partial")
    made_from = _made_from(clip, request)
    if not request.again and _read(target / _MADE_FROM) == made_from:
        return _ALREADY, _read(target / NAMES["summary"])
    if target.exists() and not (target / _MADE_FROM).exists():
        raise ClipError(f"{target} is there already, and is no result of this command")
    _remove(partial)
    partial.mkdir(parents=True)
    try:
        summary = await stream(_request(request, clip, partial), show_progress=False)
        if summary.interrupted:
            return _INTERRUPTED, {}
        if not summary.agrees:
            raise ClipError("frames received and outcomes do not add up")
        (partial / _MADE_FROM).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
        _put(partial, target)
    finally:
        _remove(partial)
    return _DONE, summary.as_dict()


def _request(request: FolderRequest, clip: Path, folder: Path) -> StreamRequest:
    files = {option: folder / name if option in request.wanted else None for option, name in NAMES.items()}
    return replace(
        request.each,
        clip=str(clip),
        every=True,
        quiet=True,
        csv=files["csv"],
        jsonl=files["jsonl"],
        parquet=files["parquet"],
        video=files["video"],
        timeline=files["timeline"],
        summary=folder / NAMES["summary"],
    )


def _clips(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Each video, and its name for the results, sorted; hidden ones, ``out`` and results are passed over."""
    if not source.exists() or source.is_fifo():
        raise StreamError(f"--out takes a video file, or a folder of them, not {source}", exit_code=USAGE)
    if not source.is_dir():
        yield source, Path(source.name)
        return
    if source.resolve() == out.resolve():
        raise StreamError("--out must be another folder than that of the clips", exit_code=USAGE)
    for place, folders, files in os.walk(source):
        here = Path(place)
        if _MADE_FROM in files:  # Results, in which the annotated video is no clip.
            folders.clear()
            continue
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (here / name).resolve() != out.resolve()
        )
        for name in sorted(files):
            # Not what only looks like one: nobody may ever write to a FIFO.
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".") and (here / name).is_file():
                yield here / name, (here / name).relative_to(source)


def _made_from(clip: Path, request: FolderRequest) -> dict[str, Any]:
    """What results depend on: the file, and what was asked of it."""
    try:
        stat = clip.stat()
    except OSError as error:
        raise ClipError(f"{error.strerror}: {clip}", exit_code=USAGE) from error
    each = request.each
    return {
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "results": sorted(request.wanted),
        "timing": each.timing,
        "quality": each.quality,
        **{name: value for name, value in each.options.items() if name not in {"freshness", "timestamps"}},
    }


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; an empty one if there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _put(partial: Path, target: Path) -> None:
    """Give results their name; those that had it go."""
    old = target.with_name(f".{target.name}.old")
    _remove(old)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    _remove(old)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _cells(end: ClipEnd) -> tuple[str, ...]:
    figures = end.figures
    if not figures:
        return end.name, "", "", "", "", f"{end.state}: {end.reason}" if end.reason else end.state
    emotions: dict[str, int] = figures["emotions"]
    total = sum(emotions.values())
    shares = sorted(emotions.items(), key=lambda item: (-item[1], item[0]))[:3]
    sent = figures["frames_sent"]
    return (
        end.name,
        f"{figures['clip_s']:.1f} s",
        str(sent),
        f"{figures['frames_with_face'] / sent:.0%}" if sent else "",
        ", ".join(f"{name} {count / total:.0%}" for name, count in shares) or "no prediction",
        _in_words(end),
    )


def _in_words(end: ClipEnd) -> str:
    """The state, and what a user should know of the results."""
    outcomes, told = end.figures["outcomes"], end.figures["frames_told"]
    lost = sum(outcomes.get(name, 0) for name in ("bad_image", "failed", "overloaded", "abandoned", "rate_limited"))
    parts = [end.state]
    if told is not None and end.figures["frames_read"] < told:
        parts.append(f"{end.figures['frames_read']} of {told} frames could be read")
    if lost:
        parts.append(f"{lost} frames were refused or failed")
    return "; ".join(parts)
