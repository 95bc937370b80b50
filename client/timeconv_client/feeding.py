"""Frames into a session and its events out, side by side, whether it has one connection or lasts over many."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from timeconv_client.errors import ServiceStopping, SessionEnded


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
    def is_open(self) -> bool:
        """It has neither ended nor been closed."""
        ...

    async def until_credit(self) -> None:
        """Wait until a frame may be sent."""
        ...

    async def send(self, jpeg: bytes, captured_us: int | None = None) -> int:
        """Send a frame."""
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
    sending = asyncio.create_task(_send_then_close(session, frames), name="timeconv-client-sender")
    try:
        try:
            async for event in session:
                yield event
        except SessionEnded:
            await sending  # Raises what stopped the sending, if that is why the session was aborted.
            raise
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send_then_close(session: Feedable[E], frames: Frames) -> None:
    source = aiter(frames) if isinstance(frames, AsyncIterable) else _one_by_one(frames)
    try:
        while True:
            # First the credit, then the frame: what a camera gives now is fresh, what it gave before the wait is not.
            await session.until_credit()
            frame = await anext(source, None)
            if frame is None:
                break
            if isinstance(frame, Frame):
                await session.send(frame.jpeg, frame.captured_us)
            else:
                await session.send(frame)
        await session.close()
    except ServiceStopping:
        await session.close()
        raise
    except Exception:
        # Of `frames`, which may raise anything, also what another session ended with; unless this one has ended.
        if session.is_open:
            await session.abort()
        raise


async def _one_by_one(frames: Iterable[bytes | Frame] | Iterable[bytes]) -> AsyncIterator[bytes | Frame]:
    for frame in frames:
        yield frame
