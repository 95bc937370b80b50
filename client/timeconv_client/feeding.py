"""Frames into a session and its events out, side by side, whether it has one connection or lasts over many."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from timeconv_client.errors import ServiceStopping, SessionEnded
from timeconv_client.messages import SessionStarted


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and when it was taken, in microseconds of any steady clock; for sessions with ``timestamps=True``."""

    jpeg: bytes
    captured_us: int


Frames = Iterable[bytes | Frame] | AsyncIterable[bytes | Frame] | Iterable[bytes] | AsyncIterable[bytes]
"""What `stream` takes. What blocks (a camera, a slow disk) belongs into an asynchronous one, on a thread."""

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class Feedable(Protocol[E_co]):
    """A session, as far as a stream needs one."""

    @property
    def started(self) -> SessionStarted:
        """What the service said at the beginning."""
        ...

    @property
    def is_open(self) -> bool:
        """It has neither ended nor been closed."""
        ...

    async def until_credit(self) -> None:
        """Wait until a frame may be sent."""
        ...

    async def send(self, jpeg: bytes, captured_us: int | None = None) -> int:
        """Send a frame."""
        ...

    def try_send(self, jpeg: bytes, captured_us: int | None = None) -> int | None:
        """Send a frame if that can be done now."""
        ...

    async def close(self) -> object:
        """End in order."""
        ...

    async def abort(self) -> None:
        """End at once."""
        ...

    def __aiter__(self) -> AsyncIterator[E_co]:
        """The events."""
        ...


async def stream(session: Feedable[E], frames: Frames) -> AsyncGenerator[E, None]:
    """Feed all frames to a session, yielding its events, and close it; see `Session.stream`."""
    sender = _Sender(session, frames)
    try:
        try:
            async for event in session:
                yield event
        except SessionEnded:
            await sender.over()  # Raises what stopped the sending, if that is why the session was aborted.
            raise
        await sender.over()
    finally:
        await sender.stop()


class _Sender:
    """A task that sends all frames, and closes the session after them."""

    def __init__(self, session: Feedable[Any], frames: Frames) -> None:
        self._session = session
        self._source = aiter(frames) if isinstance(frames, AsyncIterable) else _one_by_one(frames)
        self._reads = False
        self._task = asyncio.create_task(self._send_then_close(), name="timeconv-client-sender")

    async def over(self) -> None:
        """Wait for its end, now that the session is over; raise what stopped it."""
        if self._reads:
            # The next frame may be long in coming, and can be sent no more: this raises why.
            await self._session.until_credit()
        await self._task

    async def stop(self) -> None:
        """Send no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _send_then_close(self) -> None:
        session = self._session
        is_live = session.started.options.freshness == "latest"
        try:
            while True:
                # First the credit, then the frame: what a camera gives now is fresh, what it gave before is not.
                await session.until_credit()
                taken = await self._next_frame()
                if taken is None:
                    break
                # If it cannot be sent now, since the connection broke meanwhile, a live one would be old when it can.
                if is_live:
                    session.try_send(*taken)
                else:
                    await session.send(*taken)
            await session.close()
        except ServiceStopping:
            await session.close()
            raise
        except Exception:
            # Of `frames`, which may raise anything, also what another session ended with; unless this one has ended.
            if session.is_open:
                await session.abort()
            raise

    async def _next_frame(self) -> tuple[bytes, int | None] | None:
        """Picture and capture time; None after the last."""
        self._reads = True
        try:
            frame = await anext(self._source)
        except StopAsyncIteration:
            return None
        finally:
            self._reads = False
        return (frame.jpeg, frame.captured_us) if isinstance(frame, Frame) else (frame, None)


async def _one_by_one(frames: Iterable[bytes | Frame] | Iterable[bytes]) -> AsyncIterator[bytes | Frame]:
    for frame in frames:
        yield frame
