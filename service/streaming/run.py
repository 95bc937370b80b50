"""A clip through the service: one task sends, the caller's records what comes back, a thread writes it."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tqdm import tqdm

from service.streaming.clip import look_ahead, open_clip
from service.streaming.errors import explain
from service.streaming.frame import Clip, ClipFrame
from service.streaming.lines import line
from service.streaming.outputs import Write, open_outputs, write_summary
from service.streaming.recorder import Recorder
from service.streaming.request import StreamRequest
from service.streaming.results import FrameResult
from service.streaming.summary import Spread, Summary
from timeconv_client import (
    FrameOutcome,
    FramesOutcome,
    Prediction,
    Session,
    SessionClosed,
    TimeConvClientError,
    Totals,
    connect,
)

Result = TypeVar("Result")

MOST_UNWRITTEN = 64
"""Frames read whose results are not written yet; more are not read until there is room."""


def stream_clip(request: StreamRequest) -> Summary:
    """Stream a clip from the command line; Ctrl-C or SIGTERM ends it in order.

    Raises:
        StreamError: the clip cannot be read, the service cannot be had, it ended the session, or a result cannot be
            written.
        KeyboardInterrupt: Ctrl-C or SIGTERM before the session began, or a second time.
    """
    return run_to_end(stream(request))


def run_to_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Run ``work`` from the command line; SIGTERM, which `timeout` and service managers send, is as Ctrl-C.

    Raises:
        KeyboardInterrupt: one of them came, and ``work`` did not come to an end in order.
    """

    async def run() -> Result:
        task = asyncio.current_task()
        assert task is not None
        if threading.current_thread() is threading.main_thread():  # Others get no signals.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def stream(
    request: StreamRequest, write_line: Callable[[str], object] = tqdm.write, *, show_progress: bool = True
) -> Summary:
    """Stream a clip; ``write_line`` gets a line a frame unless the request is quiet.

    Cancelling it once the session has begun stops the sending only: the frames in flight are answered, the session is
    closed in order, the results are complete, and the summary is returned. Cancelled again, or earlier, it is
    cancelled.

    Raises:
        StreamError: the clip cannot be read, the service cannot be had, it ended the session, or a result cannot be
            written.
    """
    clip = open_clip(request.clip, request.quality, fps=request.fps, every=request.every)
    try:
        async with connect(request.url, key=request.key, **request.options) as session:
            clip.fit(session.started.limits.max_frame_pixels)
            with (
                open_outputs(request, session.started.labels, clip.fps) as write_files,
                _progress(clip, hidden=not show_progress) as bar,
                ThreadPoolExecutor(1, thread_name_prefix="timeconv-results") as writer,
            ):

                def write(results: list[FrameResult]) -> None:
                    write_files(results)
                    for result in () if request.quiet else results:
                        write_line(line(result))

                run = _Run(
                    session,
                    clip,
                    every=request.every,
                    bar=bar,
                    write=write,
                    writer=writer if request.video else None,
                    recorder=Recorder(keep_pictures=request.video is not None),
                )
                try:
                    return await run.to_end()
                finally:
                    if request.summary is not None:
                        write_summary(request.summary, request, run.summary())
    except TimeConvClientError as error:
        raise explain(error) from error
    finally:
        # Not on the event loop: the decoding thread may be in a read.
        await asyncio.to_thread(clip.close)


def _progress(clip: Clip, *, hidden: bool) -> "tqdm[None]":
    """A bar on stderr, where that is a terminal."""
    return tqdm(total=clip.total, unit="frame", disable=hidden or None, dynamic_ncols=True, leave=False)


@dataclass
class _Run:
    """A session in which a clip is streamed.

    ``writer`` is a thread for results that take long to write, in order; without it they are written at once.
    """

    session: Session
    clip: Clip
    every: bool
    bar: "tqdm[None]"
    write: Write
    writer: ThreadPoolExecutor | None
    recorder: Recorder
    frames_read: int = 0
    totals: Totals | None = None
    interrupted: bool = False
    started_s: float = field(default_factory=time.perf_counter)
    _frames_written: int = 0
    _was_written: asyncio.Event = field(default_factory=asyncio.Event)

    async def to_end(self) -> Summary:
        """Send and record until the session ends, in order or not."""
        sender = asyncio.create_task(self._send(), name="timeconv-stream-sender")
        try:
            await self._record_or_interrupt(sender)
            if not self.interrupted:
                await sender
        except TimeConvClientError as error:
            raise explain(error, self.summary()) from error
        finally:
            sender.cancel()
            # Its error, if it has one, is the session's, which the recording has met too.
            await asyncio.gather(sender, return_exceptions=True)
            await self._write(self.recorder.broken_off())
        return self.summary()

    async def _record_or_interrupt(self, sender: asyncio.Task[None]) -> None:
        try:
            await self._record()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            self.interrupted = True
            sender.cancel()
            await self.session.close()
            await self._record()

    async def _send(self) -> None:
        """Send the clip; however that ends, close the session in order, which ends the recording too."""
        try:
            async with aclosing(look_ahead(self.clip)) as frames:
                async for frame in frames:
                    await self._room()
                    await self._send_frame(frame)
                    self.frames_read += 1
                    self.bar.update()
        finally:
            await self.session.close()

    async def _send_frame(self, frame: ClipFrame) -> None:
        if self.every:
            seq: int | None = await self.session.send(frame.jpeg, frame.time_us)
        else:
            if not self.clip.is_live:
                await asyncio.sleep(self.started_s + frame.time_us / 1e6 - time.perf_counter())
            seq = self.session.try_send(frame.jpeg, frame.time_us)
        if seq is None:
            await self._write(self.recorder.frame_not_sent(frame))
        else:
            self.recorder.frame_sent(seq, frame, time.perf_counter())

    async def _record(self) -> None:
        async for event in self.session:
            match event:
                case Prediction() | FrameOutcome() | FramesOutcome():
                    await self._write(self.recorder.answered(event, time.perf_counter()))
                case SessionClosed():
                    self.totals = event.totals
                case _:
                    pass

    async def _write(self, results: list[FrameResult]) -> None:
        """Write in the order of the calls; cancelling it stops the waiting only."""
        if self.writer is None:
            self._write_now(results)
        elif results:
            await asyncio.get_running_loop().run_in_executor(self.writer, self._write_now, results)
        self._was_written.set()

    def _write_now(self, results: list[FrameResult]) -> None:
        self.write(results)
        self._frames_written += len(results)

    async def _room(self) -> None:
        """Wait until few enough results are unwritten. Frames that wait for an answer are of them."""
        while self.frames_read - self._frames_written >= MOST_UNWRITTEN:
            self._was_written.clear()
            await self._was_written.wait()

    def summary(self) -> Summary:
        """Of what was done so far."""
        started, recorder = self.session.started, self.recorder
        return Summary(
            model=f"{started.model}@{started.version}",
            clip_s=recorder.last_us / 1e6,
            frames_told=self.clip.total,
            frames_read=self.frames_read,
            frames_sent=recorder.sent,
            outcomes=dict(recorder.outcomes),
            totals=self.totals,
            unanswered=recorder.unanswered,
            unexpected=recorder.unexpected,
            frames_with_face=recorder.frames_with_face,
            emotions=dict(recorder.emotions),
            total_ms=Spread.of(recorder.total_ms),
            round_trip_ms=Spread.of(recorder.round_trip_ms),
            wall_s=time.perf_counter() - self.started_s,
            interrupted=self.interrupted,
        )
