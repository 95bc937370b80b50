"""``python -m loadtest.load``."""

import json
import re
from pathlib import Path

import pytest

from loadtest.load import _parser, main
from service.access import new_key
from service.settings import Settings
from tests.conftest import LiveServer, serving

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--group", "many"], "sessions x frames/s"),
        (["--group", "2x5", "--group", "3x5"], "latest"),
        (["--duration", "0"], "Durations"),
        (["--size", "big"], "640x480"),
        (["--scales", "1,0"], "over 0"),
        (["--scales", "1", "--ramp"], "not allowed"),
        (["--growth", "1"], "over 1"),
        (["--min-jain", "98"], "share"),
        (["--processes", "0"], "processes"),
        (["--url", "127.0.0.1:8000"], "address"),
        (["--pid", "1"], "--url"),
        (["--clip", "no such clip"], "no such clip"),
        (["--fast"], "--fast"),
        (["--url", "http://127.0.0.1:9", "--no-echo"], "http://127.0.0.1:9"),
    ],
)
def test_unusable_input_is_one_line_and_status_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be meant is told in one line; nothing is measured and nothing written."""
    monkeypatch.setattr("sys.argv", ["load", *arguments])
    assert main() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_model_that_is_not_there(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A load that the service refuses is no measurement."""
    arguments = ["--url", live_server.url, "--model", "nobody", "--group", "2x5", "--no-echo", "--size", "160x120"]
    monkeypatch.setattr("sys.argv", ["load", *arguments])
    assert main() == 2
    assert "nobody" in capsys.readouterr().err


def test_the_docs_name_no_option_that_is_not_there() -> None:
    """Every option in the docs' section is one of the command."""
    section = (ROOT / "docs" / "benchmarks.md").read_text().partition("\n## Load\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", section))
    assert named
    assert named <= set(re.findall(r"--[a-z][a-z0-9-]*", _parser().format_help()))


def test_a_run_is_written_and_its_status_is_the_verdict(
    live_server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON and page are written, failed thresholds too; the exit status says which it was."""
    short = ["--group", "1x20", "--warm-up", "0", "--duration", "0.3", "--size", "160x120", "--no-echo"]
    command = ["load", "--url", live_server.url, "--processes", "1", "--out", str(tmp_path / "new" / "run.1"), *short]
    monkeypatch.setattr("sys.argv", [*command, "--min-answered", "1"])
    # The first four frames fill the window, so less than all are answered.
    assert main() == 1
    report = json.loads((tmp_path / "new" / "run.1.json").read_text())
    assert report["passed"] is False
    assert sum(report["points"][0]["groups"][0]["outcomes"].values()) == 6
    assert report["points"][0]["discrepancies"] == []
    assert "FAILED" in (tmp_path / "new" / "run.1.html").read_text()
    assert "under 1" in capsys.readouterr().out


def test_a_service_with_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients of all kinds show the key in the environment, which is written nowhere; without it they are refused."""
    key, line = new_key("load")
    groups = ["--group", "1x20", "--group", "1x20,flood", "--group", "1x20,rest"]
    short = ["--warm-up", "0", "--duration", "0.2", "--size", "160x120", "--no-echo", "--processes", "1"]
    with serving(Settings(port=0, keys=line)) as server:
        monkeypatch.setattr("sys.argv", ["load", "--url", server.url, "--out", str(tmp_path / "run"), *groups, *short])
        monkeypatch.delenv("TIMECONV_KEY", raising=False)
        assert main() == 2
        assert "key" in capsys.readouterr().err
        monkeypatch.setenv("TIMECONV_KEY", "not a key")
        assert main() == 2
        assert "TIMECONV_KEY" in capsys.readouterr().err
        monkeypatch.setenv("TIMECONV_KEY", key)
        assert main() == 0
    written = (tmp_path / "run.json").read_text()
    found = [group["outcomes"] for group in json.loads(written)["points"][0]["groups"]]
    assert ["unauthorized" in outcomes for outcomes in found] == [False] * 3
    assert key not in written + (tmp_path / "run.html").read_text() + capsys.readouterr().out
