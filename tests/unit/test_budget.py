from service.budget import Budget
from tests.fakes import ManualClock


def spent(budget: Budget) -> int:
    """How much is left, by spending it."""
    count = 0
    while budget.spend():
        count += 1
    return count


def test_two_seconds_may_be_spent_at_once() -> None:
    """A new budget is full, and holds two seconds' worth."""
    assert spent(Budget(10, ManualClock())) == 20


def test_it_comes_back_at_its_rate() -> None:
    """What was spent comes back by and by, and nothing on top of a full budget."""
    clock = ManualClock()
    budget = Budget(10, clock)
    spent(budget)
    clock.advance(0.55)
    assert spent(budget) == 5
    clock.advance(3600)
    assert spent(budget) == 20


def test_asking_in_vain_costs_nothing() -> None:
    """A flooder that goes on gets neither less nor more than one that waits."""
    clock = ManualClock()
    budget = Budget(10, clock)
    spent(budget)
    for _ in range(10):
        clock.advance(0.011)
        last = budget.spend()
    assert last
