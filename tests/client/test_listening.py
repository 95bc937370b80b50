"""listen: callbacks over the iteration."""

import asyncio
from typing import Any

import pytest

from tests.client.fake_server import answer_every_frame, fake_server
from timeconv_client import Closed, Prediction, SessionClosed, SessionEnded, connect, listen, stay_connected

JPEG = b"\xff\xd8 a picture \xff\xd9"


@pytest.mark.parametrize(("opening", "last"), [(connect, SessionClosed), (stay_connected, Closed)])
def test_callbacks_are_called_in_order(opening: Any, last: type) -> None:
    """Every event goes to on_event, then predictions to on_prediction, of functions and coroutine functions."""
    heard: list[Any] = []

    async def on_prediction(prediction: Prediction) -> None:
        await asyncio.sleep(0)
        heard.append(prediction.seq)

    async def test() -> None:
        async with fake_server(answer_every_frame) as address, opening(address) as session:
            await listen(session, [JPEG] * 2, on_prediction=on_prediction, on_event=lambda e: heard.append(type(e)))

    asyncio.run(asyncio.wait_for(test(), 20))
    assert heard == [Prediction, 0, Prediction, 1, last]


def test_without_frames() -> None:
    """Somebody else may send and close."""
    seqs: list[int] = []

    async def test() -> None:
        async with fake_server(answer_every_frame) as address, connect(address) as session:
            listening = asyncio.create_task(listen(session, on_prediction=lambda each: seqs.append(each.seq)))
            await session.send(JPEG)
            await session.close()
            await listening

    asyncio.run(asyncio.wait_for(test(), 20))
    assert seqs == [0]


@pytest.mark.parametrize("opening", [connect, stay_connected])
def test_a_callback_that_raises(opening: Any) -> None:
    """Its exception is the caller's, and the session is over, though the block goes on."""

    async def test() -> None:
        async with fake_server(answer_every_frame) as address, opening(address) as session:
            with pytest.raises(ZeroDivisionError):
                await listen(session, [JPEG] * 100, on_prediction=lambda _: 1 // 0)
            assert not session.is_open
            with pytest.raises(SessionEnded):
                await session.send(JPEG)

    asyncio.run(asyncio.wait_for(test(), 20))


def test_cancelling() -> None:
    """Cancelled while it waits, it ends the session, and no task is left."""

    async def test() -> None:
        async with fake_server(answer_every_frame) as address, connect(address) as session:
            before = asyncio.all_tasks()
            in_the_middle = asyncio.Event()
            listening = asyncio.create_task(
                listen(session, endless(), on_prediction=lambda each: each.seq == 20 and in_the_middle.set())
            )
            await in_the_middle.wait()
            listening.cancel()
            await asyncio.wait([listening])
            assert listening.cancelled()
            assert not session.is_open
            assert asyncio.all_tasks() <= before

    asyncio.run(asyncio.wait_for(test(), 20))


async def endless() -> Any:
    while True:
        yield JPEG
