import pytest

from service.errors import HandshakeTimeout, HeaderTooLarge, RateLimited, TimeConvError, TooManyConnections
from service.gate import Gate
from service.settings import Settings
from tests.fakes import ManualClock


def gate(total: int = 3, each: int = 2) -> Gate:
    return Gate(Settings(max_connections=total, max_connections_per_address=each), clock=ManualClock())


def test_an_address_may_have_so_many() -> None:
    """One over its limit is refused, others are let in, and a place that is left is free again."""
    narrow = gate()
    for _ in range(2):
        assert narrow.refusal("10.0.0.1") is None
        narrow.enter("10.0.0.1")
    refusal = narrow.refusal("10.0.0.1")
    assert isinstance(refusal, TooManyConnections)
    assert "address" in str(refusal)
    assert narrow.refusal("10.0.0.2") is None
    narrow.leave("10.0.0.1")
    assert narrow.refusal("10.0.0.1") is None


def test_all_together_may_have_so_many() -> None:
    """However many addresses there are."""
    narrow = gate()
    for last in range(3):
        narrow.enter(f"10.0.0.{last}")
    assert narrow.connections == 3
    assert isinstance(narrow.refusal("10.0.0.9"), TooManyConnections)
    narrow.leave("10.0.0.0")
    assert narrow.refusal("10.0.0.9") is None


def test_an_address_opens_so_many_a_second() -> None:
    """Two seconds' worth at once, then one as each falls due, whether those before are still open or not."""
    clock = ManualClock()
    narrow = Gate(Settings(max_new_connections_per_s=4), clock=clock)
    for _ in range(8):
        assert narrow.refusal("10.0.0.1") is None
    assert "faster than it may" in str(narrow.refusal("10.0.0.1"))
    assert narrow.refusal("10.0.0.2") is None
    clock.advance(0.26)
    assert narrow.refusal("10.0.0.1") is None
    assert narrow.refusal("10.0.0.1") is not None


@pytest.mark.parametrize("error", [RateLimited(), HeaderTooLarge()])
def test_a_limit_broken_costs_a_second(error: TimeConvError) -> None:
    """However often it is broken meanwhile, and whatever was saved up."""
    clock = ManualClock()
    narrow = Gate(Settings(max_new_connections_per_s=4), clock=clock)
    for _ in range(100):
        narrow.refuse(error, "10.0.0.1")
    clock.advance(0.95)
    assert narrow.refusal("10.0.0.1") is not None
    clock.advance(0.1)
    assert narrow.refusal("10.0.0.1") is None


def test_waiting_too_long_costs_nothing() -> None:
    """Browsers open connections ahead and may never use them."""
    narrow = gate()
    narrow.refuse(HandshakeTimeout(), "10.0.0.1")
    assert narrow.refusal("10.0.0.1") is None


def test_who_has_left_is_forgotten() -> None:
    """Nothing is kept of addresses without a connection: there are more of them than memory."""
    narrow = gate()
    for last in range(256):
        assert narrow.refusal(f"10.0.0.{last}") is None
        narrow.enter(f"10.0.0.{last}")
        narrow.leave(f"10.0.0.{last}")
    assert (narrow.connections, len(narrow._open)) == (0, 0)


def test_addresses_are_not_kept_for_ever() -> None:
    """Of what they opened lately only so many are known: there are more of them than memory."""
    narrow = Gate(Settings(), clock=ManualClock())
    for number in range(5000):
        narrow.refusal(f"10.0.{number // 256}.{number % 256}")
    assert len(narrow._new) == 4096


def test_this_machine_is_not_counted() -> None:
    """Behind a proxy on the same machine everybody has its address: only the limit of all holds there."""
    narrow = gate()
    for _ in range(3):
        assert narrow.refusal("127.0.0.1") is None
        narrow.enter("127.0.0.1")
    assert "which is as many as this service takes" in str(narrow.refusal("127.0.0.1"))


def test_proxies_that_are_trusted_are_not_counted() -> None:
    """Behind one are many clients: only the limit of all holds for it, and for others that of an address."""
    settings = Settings(max_connections=5, max_connections_per_address=1, trusted_proxies="192.0.2.1, 10.1.0.0/16")
    narrow = Gate(settings)
    for address in ("192.0.2.1", "192.0.2.1", "10.1.2.3"):
        assert narrow.refusal(address) is None
        narrow.enter(address)
    assert narrow.refusal("192.0.2.2") is None
    narrow.enter("192.0.2.2")
    assert "of this address" in str(narrow.refusal("192.0.2.2"))
    narrow.enter("10.1.2.3")
    assert "which is as many as this service takes" in str(narrow.refusal("192.0.2.1"))
    for address in ("192.0.2.1", "192.0.2.1", "10.1.2.3", "10.1.2.3", "192.0.2.2"):
        narrow.leave(address)
    assert (narrow.connections, len(narrow._open)) == (0, 0)
