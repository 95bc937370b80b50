"""``python -m loadtest.hostile``: what its rows say, and that its attackers attack."""

import socket

import pytest

from loadtest.hostile import Figures, Round, Row, attacking, main


def test_ratios_are_of_what_was_measured_one_after_the_other() -> None:
    """A machine that is slow for one whole round changes no ratio; the other figures are medians."""
    quiet = Round(Figures(5, 10), Figures(7, 15, 100), Figures(6, 12, 200))
    slow = Round(Figures(50, 100), Figures(70, 150, 10), Figures(60, 120, 20))
    odd = Round(Figures(5, 10), Figures(7, 90, 300), Figures(6, 30, 400))
    assert Row("flood", [quiet, slow, odd]).cells() == {
        "connections_per_s": 100,
        "alone_p99_ms": 10,
        "p50_ms": 7,
        "p99_ms": 90,
        "of_alone": 1.5,
        "sink_connections_per_s": 200,
        "sink_p99_ms": 30,
        "of_sink": 1.25,
    }
    assert Row("flood", [quiet]).line() == "| flood | 100 | 10.00 | 7.00 | 15.00 | 1.50 | 200 | 12.00 | 1.25 |"


def test_an_attacker_has_begun_and_comes_again() -> None:
    """Inside the block it attacks already; what is ended it opens anew, and all it made are counted."""
    with socket.create_server(("127.0.0.1", 0)) as victim:
        victim.settimeout(30)
        with attacking("endless_header", victim.getsockname()) as made:
            assert made() >= 1
            for _ in range(4):
                attacker, _ = victim.accept()
                with attacker:
                    assert attacker.recv(5) == b"GET /"
            assert made() >= 3  # The fourth may be under way still.


def test_silent_connections_wait_for_their_end() -> None:
    """They send nothing, and are opened anew once they were all ended."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as victim:
        victim.settimeout(30)
        with attacking("silent_connections", victim.getsockname()) as made:
            held = [victim.accept()[0] for _ in range(400)]
            for attacker in held:
                attacker.close()
            victim.accept()[0].close()
            assert made() >= 400


def test_an_attacker_that_is_refused_has_begun() -> None:
    """Where nobody listens the first connection is refused, and none is counted."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    with attacking("connection_flood", address) as made:
        assert made() == 0


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--repeat", "0"], ["--attack", "kindness"]])
def test_unusable_input_is_one_line_and_status_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be meant is told in one line, before anything is started."""
    monkeypatch.setattr("sys.argv", ["hostile", *arguments])
    assert main() == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
