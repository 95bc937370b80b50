"""Table II on a tiny set: all six networks, trained for one epoch, exported and measured."""

import json
from pathlib import Path

import cv2
import pytest

from tests.training.window_sets import write_fake_set
from training import table2
from training.config import Config
from training.latency import Latency
from training.networks import NETWORKS
from training.sources.windows import WindowSource
from training.table2 import Row, make, table

pytestmark = pytest.mark.training

CONFIG = Config(epochs=1, batch=16)
SMALL = ["mini-xception-2d", "timeconv-mini-xception"]
TIMED = Latency(mean_ms=1.234, std_ms=0.5, runs=10, threads=1)


@pytest.fixture
def source(tmp_path: Path) -> WindowSource:
    """Give 21 windows of three subjects."""
    return WindowSource.load(write_fake_set(tmp_path / "set", subjects=3, frames=5), CONFIG)


def test_all_six_are_in_the_table(source: WindowSource, tmp_path: Path) -> None:
    """Each network has a line with its parameters as the paper states them, and the data are called synthetic."""
    text = make(CONFIG, source, tmp_path / "out", list(NETWORKS), [0], runs=2)
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == list(NETWORKS)
    counts = ["58,423", "58,711", "274,535", "2,267,527", "808,775", "523,357"]
    assert [line.split(" | ")[3] for line in lines] == counts
    assert text.startswith("# Table II on rendered data, synthetic\n")
    assert (tmp_path / "out" / "table2.md").read_text() == text
    picture = cv2.imread(str(tmp_path / "out" / "table2.png"))
    assert picture is not None
    assert picture.std() > 5


def test_what_is_finished_is_not_done_again(source: WindowSource, tmp_path: Path) -> None:
    """A second call trains and measures nothing, and gives the same table; a new seed is trained beside the old one."""
    out = tmp_path / "out"
    first = make(CONFIG, source, out, SMALL, [0], runs=2)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} | {
        path: path.stat().st_mtime_ns for path in out.rglob("latency.json")
    }
    assert len(before) == 6
    assert make(CONFIG, source, out, SMALL, [0], runs=2) == first
    both = make(CONFIG, source, out, SMALL, [0, 1], runs=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all("±" in line for line in both.splitlines() if line.startswith("| `"))
    assert [len(row["top1"]) for row in json.loads((out / "table2.json").read_text())] == [2, 2]


def test_a_network_too_slow_for_several_seeds_has_the_first_alone(tmp_path: Path) -> None:
    """Networks named `once` have no spread, and the heading says what that means; changed options are told."""
    source = WindowSource.load(write_fake_set(tmp_path / "set", subjects=3), CONFIG)
    text = make(CONFIG, source, tmp_path / "out", SMALL, [0, 1], runs=2, once=SMALL[:1])
    lines = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert {name: "±" in line for name, line in lines.items()} == {SMALL[0]: False, SMALL[1]: True}
    assert "a row without ± has the first alone" in text
    assert "--batch=16" in text


def test_the_papers_split_is_named_a_leak(tmp_path: Path) -> None:
    """A table by the paper's split says what is wrong with it; real sources are named."""
    config = Config(epochs=1, batch=16, split="paper")
    source = WindowSource.load(write_fake_set(tmp_path / "set", subjects=3, sources=("ck+", "baum-1")), config)
    text = make(config, source, tmp_path / "out", SMALL[:1], [0], runs=2)
    assert text.startswith("# Table II on ck+, baum-1\n")
    assert "Split by window" in text


def test_a_line_by_hand() -> None:
    """Mean and standard deviation over seeds, two digits of ms, thousands apart, MACs in millions."""
    row = Row("timeconv-mini-xception", (0.7, 0.8), TIMED, 58_711, 6_130_000)
    assert table([row]).splitlines()[-1] == "| `timeconv-mini-xception` | 0.750 ± 0.071 | 1.23 | 58,711 | 6.13 M |"
    assert "±" not in table([Row("timeconv-mini-xception", (0.7,), TIMED, 58_711, 6_130_000)])


def test_the_command_makes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command takes networks, seeds, runs and any field of the recipe, and prints the table."""
    folder, out = write_fake_set(tmp_path / "set", subjects=3), tmp_path / "out"
    words = f"table2 --data {folder} --out {out} --networks mini-xception-2d --epochs 1 --batch 16 --seeds 0 1 --runs 2"
    monkeypatch.setattr("sys.argv", words.split())
    table2.main()
    assert (out / "table2.md").read_text() in capsys.readouterr().out
