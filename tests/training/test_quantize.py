"""Quantising an exported model, on made-up faces."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.settings import shipped_model_store
from training import manifest, quantize
from training.datasets.fer2013 import COLUMN_OF_LABEL, Faces, Split
from training.evaluate import open_file, open_model

pytestmark = pytest.mark.training


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped network, without its quantised form."""
    folder = tmp_path / "timeconv-resnet20" / "1"
    shutil.copytree(shipped_model_store() / "timeconv-resnet20" / "1", folder)
    (folder / quantize.FILE).unlink()
    described = manifest.read(folder)
    del described["int8"]
    manifest.write(folder, described)
    return folder


def faces(seed: int) -> Faces:
    """Pictures of noise, each with one vote for the label that the network gives it."""
    images = np.random.default_rng(seed).integers(0, 256, (40, 48, 48), np.uint8)
    model = open_model(shipped_model_store() / "timeconv-resnet20" / "1")
    said = model(np.repeat(images[:, None], 5, axis=1)).argmax(axis=1)
    votes = np.zeros((len(images), 10), np.uint8)
    votes[np.arange(len(images)), COLUMN_OF_LABEL[said]] = 10
    return Faces(images=images, labels=said, votes=votes, duplicate=np.zeros(len(images), np.bool_))


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Run the command on made-up faces."""

    def load(_path: Path, split: Split) -> Faces:
        return faces(int(split))

    monkeypatch.setattr("training.datasets.fer2013.load", load)
    monkeypatch.setattr(sys, "argv", ["quantize", str(folder), "--data", "fer2013.npz"])
    quantize.main()


def test_a_quantised_form_is_added(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is smaller, answers nearly the same, and is in the manifest with its scores; the model stays."""
    before = manifest.read(folder)
    run(monkeypatch, folder)
    described = manifest.read(folder)
    quantised = folder / described["int8"]["file"]
    assert {**before, "int8": described["int8"]} == described
    assert described["int8"]["sha256"] == manifest.digest(quantised)
    assert quantised.stat().st_size < (folder / "model.onnx").stat().st_size / 2
    windows: NDArray[np.uint8] = np.repeat(faces(7).images[:, None], 5, axis=1)
    np.testing.assert_allclose(open_file(quantised)(windows), open_model(folder)(windows), atol=0.15)
    assert described["int8"]["scores"]["ferplus_accuracy_float32"] == 1.0


def test_a_loss_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that loses more than is allowed is not written, and the manifest stays as it was."""
    before = manifest.read(folder)
    monkeypatch.setattr(quantize, "MOST_LOST", -0.001)
    with pytest.raises(ValueError, match="int8 loses"):
        run(monkeypatch, folder)
    assert manifest.read(folder) == before
    assert {path.name for path in folder.iterdir()} == {"README.md", "manifest.json", "model.onnx"}
