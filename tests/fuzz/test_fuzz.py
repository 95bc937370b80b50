"""The quick form of `make fuzz`; the same targets, with fewer inputs."""

from itertools import chain, islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import NAMES
from tests.fuzz.mutate import mutated, seeds
from tests.fuzz.targets import TARGETS

every_target = pytest.mark.parametrize("target", TARGETS)


# Starlette leaves the last file of a body that ends within it to the garbage collector; it is in memory, and small.
unclosed = pytest.mark.filterwarnings("ignore:Exception ignored in. <function SpooledTemporaryFile")


@unclosed
@every_target
def test_corpus_and_mutations(target: str) -> None:
    """The corpus of every target and a thousand inputs made from it break no promise."""
    corpus = seeds(target)
    assert corpus
    for content in islice(chain(corpus, mutated(corpus, Random(1))), 1000):
        TARGETS[target](content)


@unclosed
@every_target
def test_any_bytes(target: str) -> None:
    """No bytes break a promise, the empty ones included."""

    @settings(max_examples=150, derandomize=True, deadline=None, database=None)
    @given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
    def holds(content: bytes) -> None:
        TARGETS[target](content)

    holds()


def test_every_target_is_run() -> None:
    """The command knows every target."""
    assert set(NAMES) == set(TARGETS)


def test_mutations_can_be_made_again() -> None:
    """The same seed gives the same inputs, so what was found is found again."""
    first, again = (list(islice(mutated([b"abc", b"defg"], Random(7)), 50)) for _ in range(2))
    assert first == again
    assert len(set(first)) > 25
