"""service.limits: rates, and places by name."""

from contextlib import ExitStack

import pytest

from service.errors import TooManySessions
from service.limits import NamedPlaces, NamedRates, TokenBucket, origin_of


def test_a_burst_and_then_the_rate() -> None:
    """A second's worth may come at once; then one as each falls due, and what was refused costs nothing."""
    bucket = TokenBucket(4, 0.0)
    assert [bucket.take(0.0) for _ in range(5)] == [True, True, True, True, False]
    assert [bucket.take(at) for at in (0.125, 0.25, 0.375, 0.5)] == [False, True, False, True]


def test_a_rest_saves_up_no_more_than_a_burst() -> None:
    """After a long rest no more than a second's worth may come at once."""
    bucket = TokenBucket(2, 0.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]


def test_less_than_one_a_second() -> None:
    """A rate under one still lets one through in the beginning."""
    bucket = TokenBucket(0.5, 0.0)
    assert [bucket.take(at) for at in (0.0, 1.0, 2.0)] == [True, False, True]


def test_a_longer_burst() -> None:
    """As many seconds' worth as it was made for; after a rest no more."""
    bucket = TokenBucket(3, 0.0, burst_s=2)
    assert [bucket.take(0.0) for _ in range(7)] == [True] * 6 + [False]
    assert [bucket.take(3600.0) for _ in range(7)] == [True] * 6 + [False]


def test_a_rest_is_as_long_as_it_is_said() -> None:
    """Whatever there was, and however often it is said, there is one again after so long."""
    bucket = TokenBucket(10, 0.0)
    for _ in range(3):
        bucket.rest(0.0, 0.75)
    assert bucket.wait_s(0.0) == pytest.approx(0.75)
    bucket = TokenBucket(0.5, 0.0)
    for _ in range(10):
        bucket.owe(0.0)
    bucket.rest(0.0, 0.75)
    assert bucket.wait_s(0.0) == pytest.approx(20), "what is owed stays owed"


def test_rates_of_each_name() -> None:
    """Each name has its own, and whoever was asked for longest ago is forgotten first."""
    rates = NamedRates(1, burst_s=1, kept=2)
    assert [rates.of(name, 0.0).take(0.0) for name in "aabba"] == [True, False, True, False, False]
    rates.of("c", 0.0)
    assert len(rates) == 2
    assert not rates.of("a", 0.0).take(0.0)
    assert rates.of("b", 0.0).take(0.0)


def test_a_name_with_a_rate_of_its_own() -> None:
    """Its own rate is in the place of the common one."""
    bucket = NamedRates(1, burst_s=1, kept=2).of("a", 0.0, 3)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]


def test_many_at_once() -> None:
    """What is owed for many is waited for as what is owed one by one."""
    bucket = TokenBucket(2, 0.0)
    bucket.owe(0.0, 5)
    assert bucket.wait_s(0.0) == 2.0


def test_what_is_owed_is_waited_for() -> None:
    """Who takes more than there is waits for all of it."""
    bucket = TokenBucket(2, 0.0)
    waits = []
    for _ in range(4):
        bucket.owe(0.0)
        waits.append(bucket.wait_s(0.0))
    assert waits == [0.0, 0.5, 1.0, 1.5]
    assert bucket.wait_s(1.5) == 0.0


def test_places_of_each_name() -> None:
    """Each name has its own places, which come back, and a name without one is forgotten."""
    places = NamedPlaces(lambda limit: TooManySessions(f"{limit} sessions of this key"))
    with ExitStack() as held:
        for name in ("a", "a", "b"):
            held.enter_context(places.place(name, 2))
        with pytest.raises(TooManySessions, match="2 sessions of this key"):
            held.enter_context(places.place("a", 2))
        assert len(places) == 2
    assert len(places) == 0
    with places.place("a", 1), pytest.raises(TooManySessions):
        places.place("a", 1).__enter__()


def test_a_name_without_any_place_is_forgotten() -> None:
    """A refusal leaves nothing behind."""
    places = NamedPlaces(lambda limit: TooManySessions(f"{limit} sessions of this key"))
    with pytest.raises(TooManySessions):
        places.place("a", 0).__enter__()
    assert len(places) == 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("127.0.0.1", None),
        ("127.8.9.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("somewhere", "unknown"),
        ("", "unknown"),
    ],
)
def test_whom_an_address_counts_for(address: str, expected: str | None) -> None:
    """An IPv4 address counts for itself, in whatever form; in IPv6 its /64 does; this machine is not counted."""
    assert origin_of(address) == expected
