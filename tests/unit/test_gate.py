from service.errors import TooManyConnections
from service.gate import Gate
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


def test_this_machine_is_not_counted() -> None:
    """Behind a proxy on the same machine everybody has its address: only the limit of all holds there."""
    narrow = gate()
    for _ in range(3):
        assert narrow.full("127.0.0.1") is None
        narrow.enter("127.0.0.1")
    assert "which is as many as this service takes" in str(narrow.full("127.0.0.1"))
