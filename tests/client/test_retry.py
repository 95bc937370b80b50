"""Retry: how long to wait, and when to give up."""

import math

import pytest

from timeconv_client import CannotConnect, ServerRefused, Timeouts
from timeconv_client.retry import Outage, Retry

AWAY = CannotConnect("away")
RETRY = Retry(first_s=1.0, factor=2.0, most_s=5.0)


def outage(retry: Retry = RETRY, limit_s: float = math.inf) -> Outage:
    """One that began at 100 s."""
    return Outage(retry, since_s=100.0, limit_s=limit_s)


@pytest.mark.parametrize(("chance", "waits_s"), [(0.0, [0.5, 1.0, 2.0, 2.5, 2.5]), (1.0, [1.0, 2.0, 4.0, 5.0, 5.0])])
def test_waits_grow_to_a_cap(chance: float, waits_s: list[float]) -> None:
    """Each wait is between half and all of twice the one before, up to the cap."""
    away = outage()
    assert [away.wait_s(AWAY, 100.0, chance) for _ in range(5)] == waits_s
    assert away.attempts == 5


def test_a_long_outage() -> None:
    """However many attempts there were, the wait is a number, also where there is no cap."""
    away = outage(Retry(first_s=1.0, most_s=math.inf))
    assert all(math.isfinite(away.wait_s(AWAY, 0.0, 0.5) or math.nan) for _ in range(2000))


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 8.0), (1.0, 10.0)])
def test_what_the_service_asks_for(chance: float, wait_s: float) -> None:
    """A longer wait that the service asked for is kept to, also over the cap, and spread."""
    full = ServerRefused(503, "at_capacity", "Full", retryable=True, retry_after_ms=8000)
    assert outage().wait_s(full, 100.0, chance) == wait_s


def test_a_shorter_wait_that_the_service_asks_for() -> None:
    """An own wait that is longer stays: many clients were asked the same."""
    full = ServerRefused(503, "at_capacity", "Full", retryable=True, retry_after_ms=10)
    assert outage().wait_s(full, 100.0, 1.0) == 1.0


def test_waits_that_grow_fast() -> None:
    """However fast they grow and however often it is tried, they reach their bound and stay there."""
    away = Outage(Retry(first_s=0.1, factor=1e9, most_s=7.0), since_s=0.0, limit_s=math.inf)
    assert [away.wait_s(AWAY, 0.0, 1.0) for _ in range(100)][-2:] == [7.0, 7.0]


def test_what_trying_again_cannot_help() -> None:
    """An error that would come again is given up at once."""
    assert outage().wait_s(ServerRefused(401, "unauthorized", "No key"), 100.0, 0.0) is None


def test_giving_up() -> None:
    """An attempt that would come after the limit is not waited for."""
    away = outage(limit_s=10.0)
    assert away.wait_s(AWAY, 109.0, 1.0) == 1.0
    assert away.wait_s(AWAY, 109.0, 1.0) is None


@pytest.mark.parametrize(
    "wrong", [{"first_s": -1}, {"first_s": math.inf}, {"most_s": math.nan}, {"factor": 0.5}, {"give_up_after_s": -1}]
)
def test_waits_that_cannot_be(wrong: dict[str, float]) -> None:
    """Negative, endless or shrinking waits are an error."""
    with pytest.raises(ValueError, match="Times must be"):
        Retry(**wrong)


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_timeouts_that_cannot_be(seconds: float) -> None:
    """A timeout of nothing is an error."""
    with pytest.raises(ValueError, match="more than 0"):
        Timeouts(ping_s=seconds)
