"""``python -m loadtest.bench``."""

import json
import re
from pathlib import Path

import pytest

from loadtest.bench.__main__ import _parser, main, require_idle
from loadtest.errors import CannotGenerate

ROOT = Path(__file__).parents[3]


def test_a_busy_machine_is_not_measured() -> None:
    """It is said how busy, what is allowed, and how to allow more."""
    with pytest.raises(CannotGenerate, match=r"54 % busy, over 10 %.*--max-load"):
        require_idle(10.0, lambda _: 53.8)
    assert require_idle(60.0, lambda _: 53.8) == 53.8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cases", "mini-xception/huge"], "mini-xception/huge"),
        (["--rounds", "2"], "odd"),
        (["--seconds", "0"], "over 0"),
        (["--fast"], "--fast"),
        (["--max-load", "-1", "--cases", "mini-xception/whole96"], "busy"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_status_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured and nothing written."""
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    assert main() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_network_that_is_not_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before anything is measured."""
    monkeypatch.setenv("TIMECONV_MODEL_STORE", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["bench", "--max-load", "100"])
    assert main() == 2
    assert "timeconv-mini-xception" in capsys.readouterr().err


def test_a_run_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The cases, the rest and the picture; goals that are not met do not change the status unless --check asks."""
    out = tmp_path / "new" / "bench.json"
    monkeypatch.setattr("loadtest.bench.__main__._IDLE_S", 0.1)
    short = ["--seconds", "0.1", "--rounds", "1", "--cases", "mini-xception/whole96", "--max-load", "100", "--markdown"]
    monkeypatch.setattr("sys.argv", ["bench", *short, "--out", str(out)])
    assert main() == 0
    (case,) = json.loads(out.read_text())
    assert case["case"] == "mini-xception/whole96"
    assert case["max_difference"] < 1e-3
    assert case["ratio"] > 0
    assert json.loads((tmp_path / "new" / "bench-more.json").read_text())["paper"]["mini-xception"]["found"] == 1.0
    assert (tmp_path / "new" / "bench.png").is_file()
    assert "| mini-xception/whole96 |" in capsys.readouterr().out


def test_the_docs_name_no_option_that_is_not_there() -> None:
    """Every option in the docs' section is one of the command."""
    section = (ROOT / "docs" / "benchmarks.md").read_text().partition("## Bench")[2].partition("\n## ")[0]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", section))
    assert named
    assert named <= set(re.findall(r"--[a-z][a-z0-9-]*", _parser().format_help()))
