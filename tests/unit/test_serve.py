"""service.serve: what is done before anything is served."""

import logging

import pytest

resource = pytest.importorskip("resource", reason="there is none for Windows")

from service.serve import allow_files  # noqa: E402 - after the skip


@pytest.mark.parametrize(
    ("limits", "wanted", "expected"),
    [
        ((1024, 4096), 2000, (2000, 4096)),
        ((1024, 4096), 9000, (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), 9000, (9000, resource.RLIM_INFINITY)),
        ((1024, 4096), 1000, None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 9000, None),
    ],
)
def test_the_limit_on_open_files_is_raised(
    limits: tuple[int, int],
    wanted: int,
    expected: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The limit becomes what the sessions need, or the most there may be, which is then said; it is never lowered."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: seen.append(new))
    with caplog.at_level(logging.WARNING):
        allow_files(wanted)
    assert seen == ([] if expected is None else [expected])
    assert bool(caplog.records) == (expected is not None and expected[0] < wanted)
