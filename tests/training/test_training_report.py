"""The README's table."""

from pathlib import Path

import pytest

from training import manifest
from training.report import faces_table, newest

pytestmark = pytest.mark.training


def described(name: str, version: str, kind: str = "network") -> manifest.Manifest:
    """Make a manifest with one measured split."""
    scores = {
        "fer_accuracy": 0.61,
        "ferplus_accuracy": 0.7936,
        "ece": 0.0123,
        "mean_recall": 0.5,
        "recall": {"angry": 0.5, "fear": None},
    }
    return {
        "name": name,
        "version": version,
        "kind": kind,
        "labels": ["angry", "fear"],
        "parameters": {"total": 58711},
        "learnt_from": "FER2013",
        "scores": {"public": {"plain": scores}},
    }


def test_rows_show_what_was_measured() -> None:
    """A row gives shares to three digits, and dashes where nothing was measured."""
    lines = faces_table([described("net", "1")]).splitlines()
    assert lines[2] == "| `net` | 58,711 | PublicTest | plain | 0.610 | 0.794 | 0.500 | 0.012 | 0.500 | - |"
    assert lines[5] == "| `net` | 58,711 | PrivateTest | de-duplicated | - | - | - | - | - | - |"
    assert len(lines) == 6


def test_the_newest_version_of_each_network_is_reported(tmp_path: Path) -> None:
    """Version 10 is newer than 9, and detectors are left out."""
    stored = [described("b", "9"), described("b", "10"), described("a", "1"), described("d", "1", kind="detector")]
    for each in stored:
        folder = tmp_path / each["name"] / each["version"]
        folder.mkdir(parents=True)
        manifest.write(folder, each)
    assert [(each["name"], each["version"]) for each in newest(tmp_path)] == [("a", "1"), ("b", "10")]
