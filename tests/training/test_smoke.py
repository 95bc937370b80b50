"""All parts together, in half a minute (`make train-smoke`): six networks learn rendered windows and are exported."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.rendering_mesh import write_mesh
from training.config import Config
from training.export import FILE, PARITY, Deployed, export
from training.networks import NETWORKS
from training.rendering.__main__ import main as render
from training.sources.windows import WindowSource
from training.splits import Parts
from training.train import Run

pytestmark = pytest.mark.training

BATCH = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> WindowSource:
    """Render 30 clips of three persons, and keep eight windows to learn from: one step's."""
    folder = tmp_path_factory.mktemp("smoke")
    mesh = write_mesh(folder / "mesh.npz")
    render(["--mesh", str(mesh), "--out", str(folder / "windows"), "--sequences", "30"])
    whole = WindowSource.load(folder / "windows", Config())
    parts = Parts(whole.parts.training[:BATCH], whole.parts.validation, whole.parts.test)
    return replace(whole, parts=parts)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_for_a_step_and_is_exported(name: str, source: WindowSource, tmp_path: Path) -> None:
    """The loss is a number, and ONNX Runtime answers as torch does."""
    # So low a rate that answers stay undecided: of a network that is sure, no export differs.
    run = Run(Config(network=name, epochs=1, batch=BATCH, peak_learning_rate=1e-4))
    loss = run.train_epoch(source)
    difference = export(Deployed(run.averaged, temperature=1.0), tmp_path / FILE)
    assert source.title == "rendered data, synthetic"
    assert math.isfinite(loss)
    assert 0 < difference <= PARITY
