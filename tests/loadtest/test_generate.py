"""A load from processes of its own, on a real service."""

from collections.abc import Sequence

from loadtest.clips import there_and_back
from loadtest.figures import GroupFigures, group_figures
from loadtest.generate import generate
from loadtest.plan import Load, parse_group
from loadtest.run import Rig, measure
from loadtest.schedule import due_s
from loadtest.servers import Server, started
from tests.conftest import LiveServer

LOAD = Load(
    groups=tuple(map(parse_group, ("2x20", "1x60,flood", "1x10,every", "1x4,rest,poisson"))),
    warm_up_s=0.3,
    duration_s=0.6,
)


def frames_due() -> list[int]:
    """Frames that each group has in its schedule after the warm-up."""
    return [
        sum(int((due_s(LOAD, place, session) >= LOAD.warm_up_s).sum()) for session in range(group.sessions))
        for place, group in enumerate(LOAD.groups)
    ]


def frames_counted(groups: Sequence[GroupFigures]) -> list[int]:
    """Frames of each group that have an outcome, or were not sent."""
    return [sum(figures.outcomes.values()) for figures in groups]


def test_every_frame_of_every_kind_of_client_is_accounted_for(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Live clients, a flooder, a patient one and a caller side by side play all of their schedules; all sums add up."""
    rig = Rig(service=Server(live_server.url, None), echo=None, clip=there_and_back(face_clip), processes=2)
    point = measure(LOAD, rig, 1.0)
    assert point.discrepancies == ()
    assert frames_counted(point.groups) == frames_due()
    for figures in point.groups:
        assert figures.latency_ms.count == figures.outcomes.get("prediction", 0)
        assert figures.broken == {}
    assert len(point.generator_cores) == 2


def test_the_echo_predicts_for_every_frame_that_is_sent(face_clip: list[bytes]) -> None:
    """The echo speaks to the same clients, under the same schedule."""
    with started("loadtest.echo") as echo:
        groups = group_figures(LOAD, generate(LOAD, echo.address, face_clip, processes=1))
    assert frames_counted(groups) == frames_due()
    for figures in groups:
        assert set(figures.outcomes) <= {"prediction", "not_sent"}
        assert figures.broken == {}
