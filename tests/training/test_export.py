"""Export: parity with torch, and what the manifest says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.training.window_sets import write_fake_set
from training import evaluate, manifest, networks
from training.calibrate import Calibration, Trust
from training.config import Config
from training.datasets import FRAMES, SIZE
from training.datasets.fer2013 import Faces
from training.export import PARITY, PARITY_BATCHES, Deployed, check_parity, describe, export, main
from training.sources import Source
from training.sources.faces import FaceSource
from training.sources.windows import WindowSource
from training.train import Run, train

pytestmark = pytest.mark.training


class StripeReader(nn.Module):
    """Scores each label by the brightness of the rows where fake faces have their stripe."""

    def forward(self, window: Tensor) -> Tensor:
        """Take windows [n, 5, 48, 48] and give logits [n, 7]."""
        bands: Tensor = window[:, -1, :42].view(-1, 7, 6 * 48).mean(dim=2) * 5
        return bands


def warmed(name: str) -> nn.Module:
    """A network whose batch norms know its maps, so that its answers are neither uniform nor the same for all."""
    torch.manual_seed(0)
    network = networks.build(name).train()
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = None  # keeps the plain mean of what it sees
    with torch.no_grad():
        network(torch.randint(0, 256, (16, FRAMES, SIZE, SIZE)) / 255)
    return network


CALIBRATION = Calibration(1.0, (0.0,) * 7, 0.0, Trust(0.5, 0.9, 0.8))


def write_model(folder: Path, source: FaceSource) -> None:
    """Export a network with fresh weights, manifest and all."""
    run = Run(Config())
    export(Deployed(run.averaged), folder / "model.onnx")
    manifest.write(folder, describe(run, "1", folder / "model.onnx", source, CALIBRATION, begun(run, source)))


def begun(run: Run, source: Source) -> dict[str, Any]:
    """What the run would have said of itself."""
    return {"commit": "c0ffee", "learnt_from": source.provenance(run.config)}


@pytest.fixture
def model() -> Deployed:
    """Wrap a network with fresh weights."""
    return Deployed(warmed("timeconv-mini-xception"), temperature=0.5)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_each_file_answers_as_torch_does(name: str, tmp_path: Path) -> None:
    """ONNX Runtime and torch differ by at most 1e-5 (float32) at batches of 1, 3 and 64."""
    assert export(Deployed(warmed(name), temperature=1.0), tmp_path / "model.onnx") <= PARITY
    assert (PARITY, PARITY_BATCHES) == (1e-5, (1, 3, 64))


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_parity_is_judged_on_answers_that_differ(name: str) -> None:
    """The weights that parity is tested with give windows unlike answers, none of which is certain."""
    with torch.no_grad():
        answers = Deployed(warmed(name), temperature=1.0)(torch.randint(0, 256, (8, FRAMES, SIZE, SIZE)))
    assert answers.std(dim=0).max() > 0.001
    assert answers.max() < 0.999


def test_a_file_of_other_weights_is_refused(model: Deployed, tmp_path: Path) -> None:
    """Parity is checked, not assumed."""
    export(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="differs from torch"):
        check_parity(Deployed(model.network, temperature=0.4), tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["timeconv-mini-xception", "mini-xception-2d"])
def test_the_graph_takes_bytes_and_gives_probabilities(name: str, tmp_path: Path) -> None:
    """The graph's input is uint8 [n, 5, 48, 48], its output float32 [n, 7] whose rows sum to one."""
    export(Deployed(warmed(name), temperature=1.0), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (window,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (window.name, window.type, window.shape) == ("window", "tensor(uint8)", ["n", 5, 48, 48])
    assert (probabilities.name, probabilities.type, probabilities.shape) == ("probabilities", "tensor(float)", ["n", 7])
    (rows,) = session.run(None, {"window": np.full((2, 5, 48, 48), 200, np.uint8)})
    np.testing.assert_allclose(rows.sum(axis=1), [1, 1], atol=1e-6)


@pytest.mark.parametrize("offset", [(), (0.0,) * 7, tuple(range(7))])
def test_what_is_taken_off_is_in_the_file(offset: tuple[float, ...], tmp_path: Path) -> None:
    """The offset is taken off the logits before the temperature divides them, in torch and in the file alike."""
    network, window = warmed("timeconv-mini-xception").eval(), torch.randint(0, 256, (2, 5, 48, 48)).to(torch.uint8)
    deployed = Deployed(network, 0.5, offset)
    assert export(deployed, tmp_path / "model.onnx") <= PARITY
    with torch.no_grad():
        expected = ((network(window / 255) - torch.tensor(offset or (0.0,) * 7)) / 0.5).softmax(dim=1)
        torch.testing.assert_close(deployed(window), expected)


def test_an_exported_model_can_be_scored(tmp_path: Path, faces: Callable[..., Faces]) -> None:
    """What export writes, manifest and all, evaluate opens and scores."""
    write_model(tmp_path, FaceSource(faces(14), faces(14)))
    scores = evaluate.evaluate(evaluate.open_model(tmp_path), faces(14))
    assert scores["plain"].pictures == 14


def test_a_changed_file_is_not_opened(tmp_path: Path, faces: Callable[..., Faces]) -> None:
    """A model file other than the one its manifest describes is refused."""
    write_model(tmp_path, FaceSource(faces(14), faces(14)))
    manifest.write(tmp_path, manifest.read(tmp_path) | {"sha256": "0" * 64})
    with pytest.raises(ValueError, match="is not the file"):
        evaluate.open_model(tmp_path)


def test_calibration_reads_only_judged_fresh_pictures(faces: Callable[..., Faces]) -> None:
    """Pictures without a FER+ label and copies of Training pictures change neither temperature nor threshold."""
    fresh = faces(35, seed=1)
    strange = faces(14, seed=2)
    strange.votes[:7] = 0
    strange.duplicate[7:] = True
    both = Faces(
        np.concatenate([fresh.images, strange.images]),
        np.concatenate([fresh.labels, strange.labels]),
        np.concatenate([fresh.votes, strange.votes]),
        np.concatenate([fresh.duplicate, strange.duplicate]),
    )
    sources = [FaceSource(faces(14), public) for public in (both, fresh)]
    told = [source.answers(StripeReader(), "cpu") for source in sources]
    assert all(np.array_equal(one, other) for one, other in zip(*told, strict=True))


def test_manifests_say_what_was_learnt_from(tmp_path: Path, faces: Callable[..., Faces]) -> None:
    """A network of rendered windows is told from one of people by its manifest, and each names its own data."""
    run, file = Run(Config()), tmp_path / "model.onnx"
    export(Deployed(run.averaged), file)
    windows = WindowSource.load(write_fake_set(tmp_path / "set"), Config())
    sources = (FaceSource(faces(14), faces(14)), windows)
    people, drawn = (describe(run, "1", file, source, CALIBRATION, begun(run, source)) for source in sources)
    assert people["training"]["commit"] == "c0ffee"
    assert drawn["training"]["cut"] == windows.cut
    assert (people["for_people"], drawn["for_people"]) == (True, False)
    assert (people["learnt_from"], drawn["learnt_from"]) == ("FER2013", "rendered data, synthetic")
    assert people["training"]["data"].startswith("14 of the 28,709 pictures")
    assert drawn["training"]["data"].startswith("147 windows of 7 persons")
    assert "--data fer2013.npz" in people["training"]["command"]
    assert "--data data/rendered" in drawn["training"]["command"]
    assert drawn["scores"]["certain"]["split"] == "validation part"


class TestCommand:
    """The command that puts a run's network into the store."""

    @pytest.fixture
    def call(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
        """Export a run on fake windows, and name its place in the store."""
        write_fake_set(tmp_path / "set")
        config = Config(epochs=1, batch=16)
        train(config, WindowSource.load(tmp_path / "set", config), tmp_path / "run")
        # One epoch on noise makes nine in ten right at no threshold.
        monkeypatch.setattr("training.calibrate.TRUSTED_ACCURACY", 0.0)

        def export_it(*options: str, data: Path = tmp_path / "set") -> Path:
            words = ["export", "--checkpoint", str(tmp_path / "run" / "best.pt"), "--data", str(data)]
            monkeypatch.setattr("sys.argv", [*words, "--store", str(tmp_path / "store"), *options])
            main()
            return tmp_path / "store" / config.network / "1"

        return export_it

    def test_a_run_comes_into_the_store_whole(self, call: Callable[..., Path]) -> None:
        """Model and manifest lie in the version's folder, and nothing beside it."""
        folder = call()
        assert evaluate.open_model(folder)
        assert [path.name for path in folder.parent.iterdir()] == ["1"]
        assert manifest.read(folder)["training"]["cut"]["split"] == "subject"

    def test_a_version_is_not_overwritten_unasked(self, call: Callable[..., Path]) -> None:
        """What is in the store stays, unless its replacement is asked for."""
        folder = call()
        manifest.write(folder, manifest.read(folder) | {"latency": {}})
        with pytest.raises(ValueError, match="--replace"):
            call()
        assert "latency" in manifest.read(folder)
        assert "latency" not in manifest.read(call("--replace"))

    def test_data_that_a_run_did_not_learn_from_are_refused(self, call: Callable[..., Path], tmp_path: Path) -> None:
        """A network of drawn faces does not become one of people by being exported with other data."""
        other = write_fake_set(tmp_path / "other", subjects=12)
        with pytest.raises(ValueError, match="the run was on other data"):
            call(data=other)
