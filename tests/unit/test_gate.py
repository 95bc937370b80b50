import pytest

from service.errors import RateLimited, TooManyConnections
from service.gate import Gate, network_of
from service.settings import Settings


def gate(total: int = 3, each: int = 2) -> Gate:
    return Gate(Settings(max_connections=total, max_connections_per_address=each))


def test_an_address_may_have_so_many() -> None:
    """One over its limit is refused, others are let in, and a place that is left is free again."""
    narrow = gate()
    for _ in range(2):
        assert narrow.full("10.0.0.1") is None
        narrow.enter("10.0.0.1")
    refusal = narrow.full("10.0.0.1")
    assert isinstance(refusal, TooManyConnections)
    assert "address" in str(refusal)
    assert narrow.full("10.0.0.2") is None
    narrow.leave("10.0.0.1")
    assert narrow.full("10.0.0.1") is None


def test_all_together_may_have_so_many() -> None:
    """However many addresses there are."""
    narrow = gate()
    for last in range(3):
        narrow.enter(f"10.0.0.{last}")
    assert narrow.connections == 3
    assert isinstance(narrow.full("10.0.0.9"), TooManyConnections)
    narrow.leave("10.0.0.0")
    assert narrow.full("10.0.0.9") is None


def test_who_has_left_is_forgotten() -> None:
    """Nothing is kept of addresses without a connection: there are more of them than memory."""
    narrow = gate()
    for last in range(256):
        assert narrow.full(f"10.0.0.{last}") is None
        narrow.enter(f"10.0.0.{last}")
        narrow.leave(f"10.0.0.{last}")
    assert (narrow.connections, len(narrow._open)) == (0, 0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:0db8:0001:0002"),
        ("2001:db8:1:2:ffff::2", "2001:0db8:0001:0002"),
        ("2001:db8:1:3::1", "2001:0db8:0001:0003"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("", ""),
    ],
)
def test_whom_an_address_stands_for(address: str, network: str) -> None:
    """An IPv4 address is a host, also as one of IPv6; in IPv6 a host has a network."""
    assert network_of(address) == network


def test_refusals_are_told() -> None:
    """Each by its code."""
    codes: list[str] = []
    Gate(Settings(), refused=codes.append).refuse(RateLimited("too many"))
    Gate(Settings()).refuse(RateLimited("too many"))
    assert codes == ["rate_limited"]
