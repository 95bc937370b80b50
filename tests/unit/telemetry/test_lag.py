"""How late the event loop is."""

import asyncio

import pytest

from service.telemetry.lag import watch_lag
from tests.fakes import ManualClock


@pytest.mark.parametrize(("late_s", "told_s"), [(0.0, 0.0), (0.25, 0.25), (-0.001, 0.0)])
def test_how_late(late_s: float, told_s: float) -> None:
    """Each timer's lateness is told; one that came a little early was not late."""
    clock, told = ManualClock(), list[float]()

    async def sleep(seconds: float) -> None:
        if len(told) == 3:
            raise asyncio.CancelledError
        clock.advance(seconds + late_s)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch_lag(told.append, interval_s=0.1, clock=clock, sleep=sleep))
    assert told == pytest.approx([told_s] * 3)
