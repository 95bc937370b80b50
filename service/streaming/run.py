"""A clip through the service: one task sends, the caller's records what comes back."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from tqdm import tqdm

from service.streaming.clip import Clip, ClipFrame, look_ahead, open_clip
from service.streaming.errors import explain
from service.streaming.recorder import Recorder
from service.streaming.request import StreamRequest
from service.streaming.rows import Row, csv_rows
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


def stream_clip(request: StreamRequest) -> Summary:
    """Stream a clip from the command line; Ctrl-C ends it in order.

    Raises:
        StreamError: the clip cannot be read, the service cannot be had, or it ended the session.
        KeyboardInterrupt: Ctrl-C before the session began, or a second time.
    """
    return asyncio.run(stream(request))


async def stream(request: StreamRequest, write_line: Callable[[str], object] = tqdm.write) -> Summary:
    """Stream a clip; ``write_line`` gets a line a frame unless the request is quiet.

    Cancelling it once the session has begun stops the sending only: the frames in flight are answered, the session is
    closed in order, the rows are complete, and the summary is returned. Cancelled again, or earlier, it is cancelled.

    Raises:
        StreamError: the clip cannot be read, the service cannot be had, or it ended the session.
    """
    clip = open_clip(request.clip, request.quality)
    try:
        async with connect(request.url, key=request.key, **request.options) as session:
            with csv_rows(request.csv) as write_rows, _progress(clip) as bar:
                run = _Run(session, clip, every=request.every, bar=bar)

                def write(rows: Iterable[Row]) -> None:
                    write_rows(rows)
                    for row in () if request.quiet else rows:
                        write_line(row.line())

                return await run.to_end(write)
    except TimeConvClientError as error:
        raise explain(error) from error
    finally:
        # Not on the event loop: the decoding thread may be in a read.
        await asyncio.to_thread(clip.close)


def _progress(clip: Clip) -> "tqdm[None]":
    """A bar on stderr, where that is a terminal."""
    return tqdm(total=clip.total, unit="frame", disable=None, dynamic_ncols=True, leave=False)


@dataclass
class _Run:
    session: Session
    clip: Clip
    every: bool
    bar: "tqdm[None]"
    recorder: Recorder = field(default_factory=Recorder)
    frames_read: int = 0
    totals: Totals | None = None
    interrupted: bool = False
    started_s: float = field(default_factory=time.perf_counter)

    async def to_end(self, write: Callable[[list[Row]], None]) -> Summary:
        """Send and record until the session ends, in order or not."""
        sender = asyncio.create_task(self._send(), name="timeconv-stream-sender")
        try:
            await self._record_or_interrupt(sender, write)
            if not self.interrupted:
                await sender
        except TimeConvClientError as error:
            raise explain(error, self._summary()) from error
        finally:
            sender.cancel()
            # Its error, if it has one, is the session's, which the recording has met too.
            await asyncio.gather(sender, return_exceptions=True)
            write(self.recorder.broken_off())
        return self._summary()

    async def _record_or_interrupt(self, sender: asyncio.Task[None], write: Callable[[list[Row]], None]) -> None:
        try:
            await self._record(write)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            self.interrupted = True
            sender.cancel()
            await self.session.close()
            await self._record(write)

    async def _send(self) -> None:
        """Send the clip; however that ends, close the session in order, which ends the recording too."""
        try:
            async with aclosing(look_ahead(self.clip)) as frames:
                async for frame in frames:
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
        if seq is not None:
            self.recorder.frame_sent(seq, frame.time_us, time.perf_counter())

    async def _record(self, write: Callable[[list[Row]], None]) -> None:
        async for event in self.session:
            match event:
                case Prediction() | FrameOutcome() | FramesOutcome():
                    write(self.recorder.answered(event, time.perf_counter()))
                case SessionClosed():
                    self.totals = event.totals
                case _:
                    pass

    def _summary(self) -> Summary:
        started, recorder = self.session.started, self.recorder
        return Summary(
            model=f"{started.model}@{started.version}",
            frames_read=self.frames_read,
            frames_sent=recorder.sent,
            outcomes=dict(recorder.outcomes),
            totals=self.totals,
            unanswered=recorder.unanswered,
            unexpected=recorder.unexpected,
            emotions=dict(recorder.emotions),
            total_ms=Spread.of(recorder.total_ms),
            round_trip_ms=Spread.of(recorder.round_trip_ms),
            wall_s=time.perf_counter() - self.started_s,
            interrupted=self.interrupted,
        )
