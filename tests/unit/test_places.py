import pytest

from service.errors import AtCapacity, Overloaded
from service.places import Places


def at_capacity(limit: int) -> AtCapacity:
    return AtCapacity(f"{limit} are taken")


def test_limit() -> None:
    """As many callers as there are places get one, the next is told at once that there is none."""
    places = Places(2, at_capacity)
    with places.place(), places.place():
        with pytest.raises(AtCapacity, match=r"^2 are taken$"), places.place():
            pytest.fail("there was a third place")
        with pytest.raises(AtCapacity), places.place():
            pytest.fail("being refused gave a place")


def test_given_back() -> None:
    """A place is free again when its caller leaves, however it leaves."""
    places = Places(1, at_capacity)
    for _ in range(3):
        with places.place():
            pass
    with pytest.raises(KeyError), places.place():
        raise KeyError
    with places.place(), pytest.raises(AtCapacity), places.place():
        pytest.fail("there was a second place")


def test_refusal_takes_no_place() -> None:
    """Who is refused leaves the places as they were."""
    places = Places(1, lambda limit: Overloaded(str(limit)))
    with places.place():
        for _ in range(5):
            with pytest.raises(Overloaded), places.place():
                pytest.fail("there was a second place")
    with places.place():
        pass
