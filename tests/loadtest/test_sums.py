"""Whether every frame is accounted for."""

from typing import Any

import pytest

from loadtest.counters import ServiceCounts
from loadtest.sums import discrepancies
from tests.loadtest.examples import LOAD, account

SERVICE = ServiceCounts(
    received=200, in_flight=0, outcomes={"prediction": 190, "superseded": 10}, calls={"prediction": 20}
)
ACCOUNTS = (
    account(outcomes={"prediction": 90, "superseded": 10}),
    account(outcomes={"prediction": 100}),
    account(group=1, outcomes={"prediction": 20, "overloaded": 3}),
)


def test_sums_that_add_up() -> None:
    """Where all counts agree there is nothing to say, with the service's metrics and without them."""
    assert discrepancies(LOAD, 223, ACCOUNTS, SERVICE) == ()
    assert discrepancies(LOAD, 223, ACCOUNTS, None) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sent": 101, "unanswered": 1}, "1 of 101 frames sent have no outcome"),
        ({"scheduled": 99}, "100 frames were due, and 99 were sent or counted as not sent"),
        ({"unexpected": 2}, "2 outcomes came for no frame, or twice"),
        ({"sent": 99}, "99 frames were sent, 100 have an outcome and 0 have none"),
        ({"told": None}, "1 of 1 sessions did not end in order"),
        ({"told": {"prediction": 99}}, "1 of 1 sessions were told other outcomes at their end than frame by frame"),
    ],
)
def test_sums_that_do_not_add_up_at_the_clients(changes: dict[str, Any], said: str) -> None:
    """Each way in which a frame can be lost or invented is told, in a sentence with its numbers."""
    assert discrepancies(LOAD, 100, [account(**changes)], None) == (said,)


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (
            ServiceCounts(199, 0, {"prediction": 189, "superseded": 10}, {"prediction": 20}),
            (
                "200 frames were sent, and the service counts 199 received",
                (
                    "Outcomes are 190 prediction, 10 superseded at the clients"
                    " and 189 prediction, 10 superseded at the service"
                ),
            ),
        ),
        (
            ServiceCounts(200, 1, {"prediction": 190, "superseded": 10}, {"prediction": 20}),
            ("The service counts 200 frames received, 200 with an outcome and 1 in flight",),
        ),
        (
            ServiceCounts(200, 0, {"prediction": 190, "superseded": 10}, {}),
            ("Calls are 20 prediction at the callers and none at the service",),
        ),
    ],
)
def test_sums_that_do_not_add_up_at_the_service(service: ServiceCounts, said: tuple[str, ...]) -> None:
    """What the service counts is held against what the clients count, frame by frame and call by call."""
    assert discrepancies(LOAD, 223, ACCOUNTS, service) == said
