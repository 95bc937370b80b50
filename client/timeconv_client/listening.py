"""Callbacks in the place of a loop: thin over the iteration."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Protocol, TypeVar

from timeconv_client.feeding import E_co, Feedable, Frames
from timeconv_client.messages import Prediction

E = TypeVar("E")
Callback = Callable[[E], Awaitable[object] | object]
"""Called with an event, on the event loop; what it returns is awaited if it can be."""


class Listenable(Feedable[E_co], Protocol[E_co]):
    """A session, as far as `listen` needs one."""

    def stream(self, frames: Frames) -> AsyncGenerator[E_co, None]:
        """Send frames, yielding the events."""
        ...


async def listen(
    session: Listenable[E],
    frames: Frames | None = None,
    *,
    on_prediction: Callback[Prediction] | None = None,
    on_event: Callback[E] | None = None,
) -> None:
    """Call back for each event until the session ends: the loop over `Session.stream`, or over the session.

    One callback at a time, in the order of the events. While one runs no other event is handed on, though the session
    goes on reading: a callback that takes long belongs on a thread.

    Args:
        session: of `connect` or `stay_connected`.
        frames: to send meanwhile, as `Session.stream` does; None: somebody else sends and closes.
        on_prediction: for each `Prediction`.
        on_event: for every event, predictions too, before ``on_prediction``.

    Raises:
        TimeConvClientError: what ended the session, if it did not end in order.
        Exception: whatever a callback or ``frames`` raises; the session is aborted then, as by cancelling.
    """
    try:
        async with AsyncExitStack() as stack:
            events = session if frames is None else await stack.enter_async_context(aclosing(session.stream(frames)))
            async for event in events:
                if on_event is not None:
                    await _called(on_event(event))
                if on_prediction is not None and isinstance(event, Prediction):
                    await _called(on_prediction(event))
    except BaseException:
        await session.abort()
        raise


async def _called(result: Awaitable[object] | object) -> None:
    if isinstance(result, Awaitable):
        await result
