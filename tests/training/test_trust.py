"""How far confidence can be trusted, with numbers worked out by hand, and what models say of a split of the data."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tests.training.window_sets import fake_clip, write_fake_set
from training import evaluate, manifest, splits, trust
from training.confusion import score
from training.datasets import windowset
from training.datasets.fer2013 import LABELS
from training.evaluate import BATCH, Answers, answers, open_model, open_part
from training.scores import CALIBRATION_BINS, calibration_error, certain

pytestmark = pytest.mark.training

# Of a network that learnt from no windows.
UNCUT: dict[str, Any] = {"training": {}}

REPOSITORY = Path(__file__).parents[2]
SHIPPED = REPOSITORY / "model_store" / "timeconv-mini-xception" / "1"


class StripeReader:
    """Answers by the stripe of fake faces and fake clips in a window's last frame; keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[NDArray[np.uint8]] = []

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.shown.append(windows)
        bands = windows[:, -1, :42].reshape(-1, 7, 6 * 48).mean(axis=2)
        shares: NDArray[np.float32] = (bands / bands.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares


def judged(confidence: list[float], said: list[int], truth: list[int]) -> Answers:
    """Answers of the given confidence; what is left of it goes to the last label, or to the first."""
    probabilities = np.zeros((len(said), 7), np.float32)
    for row, (share, label) in enumerate(zip(confidence, said, strict=True)):
        probabilities[row, 0 if label == 6 else 6] = 1 - share
        probabilities[row, label] = share
    return Answers(probabilities, np.array(truth))


def copy_shipped(folder: Path, name: str, **changes: object) -> Path:
    """Copy the shipped network under another name, with changes to its manifest."""
    shutil.copytree(SHIPPED, folder / name)
    manifest.write(folder / name, manifest.read(SHIPPED) | {"name": name} | changes)
    return folder / name


def points(axes: Axes, line: int) -> list[tuple[float, float]]:
    """What a line goes through."""
    drawn = np.asarray(axes.get_lines()[line].get_xydata())
    return [(float(x), float(y)) for x, y in drawn]


def test_risk_over_coverage_by_hand() -> None:
    """In the order 0.9 right, 0.8 right, 0.7 wrong, 0.6 wrong the risk goes 0, 0, 1/3, 1/2."""
    confidence = np.array([0.9, 0.6, 0.8, 0.7], np.float32)
    coverage, risk = trust.risk_coverage(confidence, np.array([True, False, True, False]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])


@pytest.mark.parametrize("right", [[True, False, True, True], [False, True, True, True]])
def test_equally_confident_answers_pass_together(right: list[bool]) -> None:
    """Two answers at 0.8, of which one is wrong, are one point of the curve, whichever comes first."""
    coverage, risk = trust.risk_coverage(np.array([0.8, 0.8, 0.5, 0.5], np.float32), np.array(right))
    assert (coverage.tolist(), risk.tolist()) == ([0.5, 1.0], [0.5, 0.25])


def test_each_point_of_the_curve_is_that_of_its_threshold() -> None:
    """With many ties, every threshold's coverage and accuracy as `certain` counts them are a point of the curve."""
    chance = np.random.default_rng(0)
    confidence = (chance.integers(3, 11, 200) / 10).astype(np.float32)
    right = chance.random(200) < confidence
    coverage, risk = trust.risk_coverage(confidence, right)
    expected = [certain(confidence, right, threshold) for threshold in np.unique(confidence)[::-1]]
    assert coverage.round(4).tolist() == [each["coverage"] for each in expected]
    assert (1 - risk).round(4).tolist() == [each["accuracy"] for each in expected]


def test_bins_by_hand() -> None:
    """0.96 and 1.0 share the last bin, 0.2 is the third's upper edge and 0.21 the fourth's; empty bins are left out."""
    confidence = np.array([1.0, 0.21, 0.2, 0.96], np.float32)
    mean, accuracy, counts = trust.reliability(confidence, np.array([True, False, True, False]))
    assert mean.tolist() == pytest.approx([0.2, 0.21, 0.98])
    assert accuracy.tolist() == [1.0, 0.0, 0.5]
    assert counts.tolist() == [1, 1, 2]


def test_bins_are_those_of_the_calibration_error() -> None:
    """The gaps between confidence and accuracy, weighted by their bins' answers, sum up to the ECE (to 1e-6)."""
    chance = np.random.default_rng(1)
    confidence = np.concatenate([chance.random(500), np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS])
    confidence, right = confidence.astype(np.float32), chance.random(len(confidence)) < 0.6
    mean, accuracy, counts = trust.reliability(confidence, right)
    assert counts.sum() == len(confidence)
    gaps = (counts * np.abs(mean - accuracy)).sum() / counts.sum()
    assert gaps == pytest.approx(calibration_error(confidence, right), abs=1e-6)


def test_the_picture_has_both_curves_and_the_threshold() -> None:
    """Left: the curve, and the threshold's point on it; right: the diagonal and accuracy over confidence, with ECE."""
    four = judged([0.9, 0.8, 0.7, 0.6], said=[3, 3, 3, 3], truth=[3, 3, 0, 1])
    described = {"name": "net", "version": "2", "uncertain_below": 0.65, "scores": {"test": {"ece": 0.0456}}}
    figure = trust.draw(four, described, "test")
    left, right = figure.axes
    assert np.allclose(points(left, 0), [(0.25, 0), (0.5, 0), (0.75, 1 / 3), (1, 1 / 2)])
    assert np.allclose(points(left, 1), [(0.75, 1 / 3)], atol=1e-4)
    assert points(right, 0) == [(0, 0), (1, 1)]
    assert np.allclose(points(right, 1), [(0.6, 0), (0.7, 0), (0.8, 1), (0.9, 1)])
    assert [bar.get_bbox().height for bar in right.containers[0]] == [0.25] * 4
    assert right.get_xlabel() == "confidence (ECE 0.046)"
    assert figure.get_suptitle() == "net 2: test part, rendered data"


def test_pictures_are_labelled_with_the_deduplicated_error() -> None:
    """Of a split of FER2013, whose scores come both ways, the drawn answers' ECE is the de-duplicated one."""
    scores = {"private": {"plain": {"ece": 0.5}, "deduplicated": {"ece": 0.25}}}
    described = {"name": "net", "version": "1", "uncertain_below": 0.5, "scores": scores}
    figure = trust.draw(judged([0.9], said=[3], truth=[3]), described, "private")
    assert figure.axes[1].get_xlabel() == "confidence (ECE 0.250)"
    assert figure.get_suptitle() == "net 1: PrivateTest, de-duplicated"


def test_a_threshold_that_nothing_reaches_is_not_drawn() -> None:
    """A model that is never sure has its curve, but no point on it."""
    described = {"name": "net", "version": "1", "uncertain_below": 0.99, "scores": {"test": {"ece": 0.1}}}
    left = trust.draw(judged([0.9], said=[3], truth=[3]), described, "test").axes[0]
    assert len(left.get_lines()) == 1


def test_the_command_draws_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture a model, under the network's name, in a folder that is made."""
    data, out = write_fake_set(tmp_path / "set", subjects=3), tmp_path / "new" / "out"
    models = [copy_shipped(tmp_path, name, scores={"validation": {"ece": 0.1}}) for name in ("one", "two")]
    words = ["trust", *map(str, models), "--data", str(data), "--split", "validation", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    trust.main()
    assert sorted(path.name for path in out.iterdir()) == ["one-validation.png", "two-validation.png"]
    said = answers(open_model(models[1]), UNCUT, data, "validation")
    trust.draw(said, manifest.read(models[1]), "validation").savefig(tmp_path / "two.png")
    assert (out / "two-validation.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_parts_are_those_of_training(tmp_path: Path) -> None:
    """Validation and test part are what a run with default options is chosen and judged by."""
    folder = write_fake_set(tmp_path, subjects=20)
    parts = splits.by_subject(windowset.load(folder), seed=0)
    opened, validation = open_part(folder, "validation", None)
    assert validation.tolist() == parts.validation.tolist()
    assert open_part(folder, "test", None)[1].tolist() == parts.test.tolist()
    assert len(opened) == 420


@pytest.mark.parametrize(("how", "seed"), [("subject", 3), ("paper", 0), ("paper", 1)])
def test_a_network_is_judged_by_its_own_cut(tmp_path: Path, how: Any, seed: int) -> None:
    """Parts are those of the run's own cut, or what it learnt from would judge it; another set is refused."""
    folder = write_fake_set(tmp_path / "set", subjects=20)
    source = windowset.load(folder)
    cut = {"split": how, "seed": seed, "frames_sha256": source.frames_sha256}
    expected = splits.split(source, how, seed)
    assert open_part(folder, "test", cut)[1].tolist() == expected.test.tolist()
    assert open_part(folder, "validation", cut)[1].tolist() == expected.validation.tolist()
    with pytest.raises(ValueError, match="not the set that the network learnt from"):
        open_part(folder, "test", cut | {"frames_sha256": "0"})


def test_every_window_of_the_part_is_answered(tmp_path: Path) -> None:
    """More windows than a batch holds are shown as they are, in order, none twice, and come with their labels."""
    # Each subject shows the emotions in another order.
    clips = [fake_clip(subject, (subject + at) % 7, "rendered", frames=25) for subject in range(10) for at in range(7)]
    windowset.write(tmp_path, clips, LABELS, 70 * 25)
    opened, rows = open_part(tmp_path, "test", None)
    reader = StripeReader()
    said = answers(reader, UNCUT, tmp_path, "test")
    assert BATCH < len(rows) < 2 * BATCH
    assert [len(each) for each in reader.shown] == [BATCH, len(rows) - BATCH]
    assert np.array_equal(np.concatenate(reader.shown), opened.windows(rows))
    assert said.truth.tolist() == opened.label[rows].tolist()
    assert said.right.all()
    assert said.probabilities.shape == (len(rows), 7)


def test_of_pictures_only_those_that_can_be_judged_are_answered(fer2013_file: Path) -> None:
    """Of PublicTest's four, the copy of a Training picture and the one nobody could name are left out."""
    with np.load(fer2013_file) as stored:
        held = dict(stored)
    held["ferplus_votes"][6] = 0
    np.savez(fer2013_file, **held)
    reader = StripeReader()
    said = answers(reader, UNCUT, fer2013_file, "public")
    assert said.truth.tolist() == [5, 0]
    assert said.right.all()
    expected = np.repeat(held["images"][[5, 7], np.newaxis], 5, axis=1)
    assert np.array_equal(np.concatenate(reader.shown), expected)


def test_answers_know_their_winners() -> None:
    """Confidence is the winner's probability, and an answer is right where the winner is the truth."""
    three = judged([0.9, 0.6, 0.7], said=[3, 6, 0], truth=[3, 6, 1])
    assert three.confidence.tolist() == pytest.approx([0.9, 0.6, 0.7])
    assert three.right.tolist() == [True, True, False]


def test_scores_on_windows_are_recorded_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--split test` writes the part's scores and the share of certain answers beside the scores that were there."""
    data = write_fake_set(tmp_path / "set", subjects=5)
    before: dict[str, object] = {"public": {"plain": {}}}
    model = copy_shipped(tmp_path, "net", scores=before, uncertain_below=0.3)
    monkeypatch.setattr("sys.argv", ["evaluate", str(model), "--data", str(data), "--split", "test"])
    evaluate.main()
    said = answers(open_model(model), UNCUT, data, "test")
    expected = asdict(score(said.probabilities, said.truth)) | {"certain": certain(said.confidence, said.right, 0.3)}
    assert manifest.read(model)["scores"] == before | {"test": expected}
    assert json.loads(capsys.readouterr().out) == expected
    assert expected["windows"] == len(said.truth) > 0


def test_scores_on_pictures_are_recorded_both_ways(
    fer2013_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--split public` writes plain and de-duplicated scores, and what is certain of the latter; PrivateTest stays."""
    model = copy_shipped(tmp_path, "net", scores={}, uncertain_below=0.0)
    monkeypatch.setattr("sys.argv", ["evaluate", str(model), "--data", str(fer2013_file), "--split", "public"])
    evaluate.main()
    scores = manifest.read(model)["scores"]
    assert list(scores) == ["public"]
    assert (scores["public"]["plain"]["pictures"], scores["public"]["deduplicated"]["pictures"]) == (4, 3)
    assert scores["public"]["certain"]["coverage"] == 1.0
    assert scores["public"]["certain"]["accuracy"] == scores["public"]["deduplicated"]["ferplus_accuracy"]
    assert "deduplicated" in capsys.readouterr().out


def test_drawing_needs_no_torch() -> None:
    """A fresh interpreter that imports what draws, and what it draws on, has not loaded torch."""
    program = "import sys, training.trust, training.failures, training.evaluate; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)  # noqa: S603 - our own
    assert done.returncode == 0
