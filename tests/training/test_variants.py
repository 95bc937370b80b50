"""The log of variants: what is noted of a run, and where."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from training import run_folder, variants
from training.config import PAPER, Config
from training.variants import entry, noted

pytestmark = pytest.mark.training

FACES_LOG = [
    {"epoch": 1, "loss": 1.5, "fer_accuracy": 0.6, "ferplus_accuracy": 0.7, "ece": 0.1, "seconds": 1200.0},
    {"epoch": 2, "loss": 1.2, "fer_accuracy": 0.7, "ferplus_accuracy": 0.8, "ece": 0.2, "seconds": 1800.0},
    {"epoch": 3, "loss": 1.1, "fer_accuracy": 0.8, "ferplus_accuracy": 0.75, "ece": 0.3, "seconds": 2400.0},
]
WINDOWS_LOG = [
    {"epoch": 1, "loss": 1.5, "accuracy": 0.9, "ece": 0.1, "seconds": 36.0},
    {"epoch": 2, "loss": 1.2, "accuracy": 0.8, "ece": 0.2, "seconds": 36.0},
]


def write_run(folder: Path, config: Config, rows: list[dict[str, float]], **described: Any) -> Path:
    """Write the two files of a run that are read, as training does."""
    folder.mkdir()
    machine = {"torch": "2.13.0", "processor": "Xeon", "threads": 2}
    values = {"config": asdict(config), "data": {}, "machine": machine, "commit": "c" * 40} | described
    run_folder.write_json(folder / run_folder.CONFIG, values)
    run_folder.write_log(folder, rows)
    return folder


def test_a_run_on_faces_is_summed_up(tmp_path: Path) -> None:
    """Its score is the best FER+ accuracy, of whatever epoch; hours are all epochs'; the network is no option."""
    config = Config(network="timeconv-resnet20", epochs=45, mixup=0.3, seed=1)
    assert entry(write_run(tmp_path / "mixed", config, FACES_LOG), "does mixup help?") == {
        "name": "mixed",
        "network": "timeconv-resnet20",
        "options": ["--mixup=0.3", "--seed=1"],
        "epochs": "3 of 45",
        "best_epoch": 2,
        "ferplus_accuracy": 0.8,
        "hours": 1.5,
        "threads": 2,
        "commit": "c" * 40,
        "note": "does mixup help?",
    }


def test_a_run_on_windows_is_summed_up(tmp_path: Path) -> None:
    """Its score is the best accuracy on the validation part; the default recipe has no options."""
    noted_run = entry(write_run(tmp_path / "plain", Config(), WINDOWS_LOG), "")
    assert (noted_run["accuracy"], noted_run["best_epoch"], noted_run["hours"]) == (0.9, 1, 0.02)
    assert "ferplus_accuracy" not in noted_run
    assert noted_run["options"] == []


def test_options_are_those_that_differ_from_the_recipe(tmp_path: Path) -> None:
    """The paper's recipe is named, and not taken apart."""
    run = write_run(tmp_path / "paper", replace(PAPER, batch=64), WINDOWS_LOG)
    assert entry(run, "")["options"] == ["--recipe=paper", "--batch=64"]


def test_of_equal_epochs_the_first_is_the_best(tmp_path: Path) -> None:
    """As in training, a later epoch that only draws level is not chosen."""
    rows = [row | {"accuracy": 0.5} for row in WINDOWS_LOG]
    assert entry(write_run(tmp_path / "level", Config(), rows), "")["best_epoch"] == 1


def test_a_run_of_unknown_commit_is_noted(tmp_path: Path) -> None:
    """A run begun before commits were written down has none."""
    run = write_run(tmp_path / "old", Config(), WINDOWS_LOG)
    described = json.loads((run / run_folder.CONFIG).read_text())
    del described["commit"]
    run_folder.write_json(run / run_folder.CONFIG, described)
    assert entry(run, "")["commit"] is None


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """There is nothing to note of an empty folder."""
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        entry(tmp_path, "")


def test_a_new_run_is_noted_last() -> None:
    """The log keeps the order in which runs were noted, and what was given stays as it was."""
    log = [{"name": "b"}, {"name": "a"}]
    assert noted(log, {"name": "c"}) == [{"name": "b"}, {"name": "a"}, {"name": "c"}]
    assert log == [{"name": "b"}, {"name": "a"}]


def test_a_run_noted_again_keeps_its_place() -> None:
    """Its entry is replaced, and no other moves."""
    log = [{"name": "b", "note": "?"}, {"name": "a", "note": "?"}]
    assert noted(log, {"name": "b", "note": "!"}) == [{"name": "b", "note": "!"}, {"name": "a", "note": "?"}]


def test_the_command_notes_runs_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log's folder is made, two runs stand in their order, the first's second note replaces its first."""
    runs = [write_run(tmp_path / name, Config(), WINDOWS_LOG) for name in ("one", "two")]
    log = tmp_path / "docs" / "results" / "variants.json"
    for run, note in ((runs[0], "goes on"), (runs[1], "done"), (runs[0], "done")):
        monkeypatch.setattr("sys.argv", ["variants", str(run), "--note", note, "--log", str(log)])
        capsys.readouterr()
        variants.main()
    written = json.loads(log.read_text())
    assert [(each["name"], each["note"]) for each in written] == [("one", "done"), ("two", "done")]
    assert json.loads(capsys.readouterr().out) == written[0]
