"""Where figures come from: commit, day, processor; and that a measured latency says so."""

import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from training import latency, manifest, provenance
from training.latency import Latency

pytestmark = pytest.mark.training

CPU_INFO = """processor\t: 0
model name\t: Xeon: the first
processor\t: 1
model name\t: Xeon, the second
"""


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, as somebody."""
    who = ["-c", "user.name=A", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603, S607 - constant arguments
    return done.stdout.strip()


def describe(folder: Path, name: str, kind: str) -> Path:
    """Write the manifest of a model whose file is not there."""
    (folder / name).mkdir()
    manifest.write(folder / name, {"name": name, "kind": kind, "file": "model.onnx", "macs": 7})
    return folder / name


def test_the_commit_is_that_of_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last commit of the code's own repository is named in full, wherever one stands; changes since are told."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    monkeypatch.setattr(provenance, "CODE", tmp_path)
    assert provenance.commit() == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit() == git(tmp_path, "rev-parse", "HEAD") + "-dirty"


def test_without_git_no_commit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git is not installed, training goes on without the commit's name."""
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_without_a_commit_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an unpacked archive nor a repository without commits has one to name."""
    monkeypatch.setattr(provenance, "CODE", tmp_path)
    assert provenance.commit() is None
    git(tmp_path, "init", "--quiet")
    assert provenance.commit() is None


def test_the_day_is_that_of_utc() -> None:
    """It is written as ISO 8601 has it, whatever the machine's zone."""
    before = datetime.now(UTC).date()
    said = date.fromisoformat(provenance.today())
    assert before <= said <= datetime.now(UTC).date()


def test_the_processor_is_named_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the first core's model name, without the tab before it."""
    (tmp_path / "cpuinfo").write_text(CPU_INFO)
    monkeypatch.setattr(provenance, "CPU_INFO", tmp_path / "cpuinfo")
    assert provenance.processor() == "Xeon: the first"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nBogoMIPS\t: 50.00\n"])
def test_an_unnamed_processor_is_called_by_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """Where the system tells no model name (no Linux, or ARM) the machine's architecture stands in."""
    if text:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(provenance, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert provenance.processor() == "aarch64"


def test_results_say_how_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command, commit, date and processor are written beside them."""
    for name, value in (("commit", "c" * 40), ("today", "2026-11-23"), ("processor", "Xeon")):
        monkeypatch.setattr(provenance, name, lambda value=value: value)
    how = {"command": "python -m x", "commit": "c" * 40, "date": "2026-11-23", "processor": "Xeon"}
    assert provenance.made_by("python -m x") == how


def test_latency_goes_into_the_manifests_of_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each network's manifest gets its own file's time with processor and date; a detector's stays as it was."""
    times = {"fast": 0.5, "slow": 12.345}

    def measure(path: Path) -> Latency:
        assert path.name == "model.onnx"
        return Latency(times[path.parent.name], 0.25, runs=1000, threads=1)

    folders = [describe(tmp_path, name, kind) for name, kind in (("fast", "network"), ("d", "detector"))]
    folders.append(describe(tmp_path, "slow", "network"))
    monkeypatch.setattr(latency, "measure", measure)
    monkeypatch.setattr(latency, "processor", lambda: "Xeon")
    monkeypatch.setattr(latency, "today", lambda: "2026-11-23")
    monkeypatch.setattr("sys.argv", ["latency", *map(str, folders)])
    latency.main()
    written = {folder.name: manifest.read(folder) for folder in folders}
    machine = {"processor": "Xeon", "date": "2026-11-23"}
    assert written["slow"]["latency"] == {"mean_ms": 12.345, "std_ms": 0.25, "runs": 1000, "threads": 1} | machine
    assert written["fast"]["latency"]["mean_ms"] == 0.5
    assert written["fast"]["macs"] == 7
    assert "latency" not in written["d"]
    assert capsys.readouterr().out.splitlines() == ["fast: 0.50 ms", "slow: 12.35 ms"]
