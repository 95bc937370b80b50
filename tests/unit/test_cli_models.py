"""``timeconv models``: what there is, and what it is for."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.inference.artifact import ModelStore
from service.settings import shipped_model_store

NAME = "timeconv-mini-xception"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One network of the shipped store, as ``people@1`` and, having seen drawings only, as ``drawn@1``."""
    shipped = ModelStore(shipped_model_store()).find(NAME, "network").folder
    for name, changes in {"people": {}, "drawn": {"for_people": False, "learnt_from": "drawings"}}.items():
        folder = shutil.copytree(shipped, tmp_path / name / "1")
        described = json.loads((folder / "manifest.json").read_bytes()) | {"name": name, "version": "1"} | changes
        described["scores"] |= {"test": {"accuracy": 0.5}, "private": {"deduplicated": {"ferplus_accuracy": 0.75}}}
        (folder / "manifest.json").write_text(json.dumps(described))
    return tmp_path


def test_each_network_has_a_line(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, size, published score and which one is the default; one that is not for people says so."""
    monkeypatch.setenv("TIMECONV_MODEL_STORE", str(store))
    monkeypatch.setenv("TIMECONV_MODEL", "people")
    answer = CliRunner().invoke(app, ["models"])
    drawn, people = answer.output.splitlines()
    assert drawn.split("  ")[0] == "drawn@1"
    assert drawn.endswith("not for people: learnt from drawings, top-1 0.500")
    assert people.endswith("58,711 parameters   FER+ accuracy 0.750 (PrivateTest, de-duplicated)  default")
