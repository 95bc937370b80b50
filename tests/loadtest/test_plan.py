"""What a load may be, and how the command line says it."""

import pytest

from loadtest.errors import BadLoad
from loadtest.plan import Group, Load, parse_group


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("60x15", Group(name="latest", sessions=60, frames_per_s=15.0)),
        ("1x150,flood", Group(name="flood", sessions=1, frames_per_s=150.0, ignores_credit=True)),
        ("2x7.5, every, poisson", Group(name="every", sessions=2, frames_per_s=7.5, kind="every", arrival="poisson")),
        ("4x2,rest,name=callers", Group(name="callers", sessions=4, frames_per_s=2.0, kind="rest")),
        ("1x9,every,flood", Group(name="flood", sessions=1, frames_per_s=9.0, kind="every", ignores_credit=True)),
    ],
)
def test_a_group_in_words(text: str, group: Group) -> None:
    """Sessions x rate, then words in any order; a group without a name is called after what it is."""
    assert parse_group(text) == group


@pytest.mark.parametrize(
    "text",
    ["", "60", "x15", "60x", "0x15", "-1x15", "60x0", "60x-1", "60xnan", "60xinf", "60x15,fast", "1x1,rest,flood"],
)
def test_what_is_no_group(text: str) -> None:
    """What cannot be meant is refused, in one line."""
    with pytest.raises(BadLoad) as refused:
        parse_group(text)
    assert "\n" not in str(refused.value)


def test_scaled() -> None:
    """A scaled load has all its rates multiplied, and nothing else changed."""
    load = Load(groups=(parse_group("60x15"), parse_group("1x150,flood")), seed=7)
    scaled = load.scaled(0.5)
    assert [group.offered_per_s for group in scaled.groups] == [450.0, 75.0]
    assert scaled.scaled(2) == load


@pytest.mark.parametrize(
    "wrong", [{"groups": ()}, {"duration_s": 0.0}, {"duration_s": float("nan")}, {"warm_up_s": -1.0}, {"seed": -1}]
)
def test_what_is_no_load(wrong: dict[str, object]) -> None:
    """A load has a group, and a time."""
    with pytest.raises(BadLoad):
        Load(**{"groups": (parse_group("1x1"),)} | wrong)  # type: ignore[arg-type] # as a caller might


def test_names_tell_groups_apart() -> None:
    """Two groups of one name could not be told apart in the report."""
    with pytest.raises(BadLoad, match="latest"):
        Load(groups=(parse_group("1x1"), parse_group("2x2")))
