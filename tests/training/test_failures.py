"""The sheet of worst mistakes."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.window_sets import write_fake_set
from training import failures, manifest
from training.datasets.fer2013 import LABELS
from training.evaluate import Answers
from training.failures import SHOWN, worst

pytestmark = pytest.mark.training

SHIPPED = Path(__file__).parents[2] / "model_store" / "timeconv-mini-xception" / "1"
FEAR, HAPPY, SAD = (LABELS.index(label) for label in ("fear", "happy", "sad"))


def said_happy(confidence: list[float], truth: list[int]) -> Answers:
    """Answers that all are happy, so confident; the rest goes to neutral."""
    probabilities = np.zeros((len(truth), len(LABELS)), np.float32)
    probabilities[:, HAPPY] = confidence
    probabilities[:, -1] = 1 - probabilities[:, HAPPY]
    return Answers(probabilities, np.array(truth))


def test_the_most_confident_mistakes_come_first() -> None:
    """Of a label's windows the wrong are listed, the most confident first; right ones and other labels' are not."""
    judged = said_happy([0.6, 0.9, 0.99, 0.8, 0.95], truth=[SAD, SAD, FEAR, SAD, HAPPY])
    clips = np.arange(5)
    assert worst(judged, clips, SAD) == [1, 3, 0]
    assert worst(judged, clips, FEAR) == [2]
    assert worst(judged, clips, HAPPY) == []


def test_a_clip_is_shown_once() -> None:
    """Of a clip's mistakes only the most confident is listed, wherever it stands among them."""
    judged = said_happy([0.6, 0.9, 0.8, 0.7, 0.85], truth=[SAD] * 5)
    assert worst(judged, np.array([7, 3, 7, 3, 1]), SAD) == [1, 4, 2]


def test_no_more_are_listed_than_are_shown() -> None:
    """Of many clips the four most confident mistakes are listed."""
    confidence = np.linspace(0.55, 0.95, 9).tolist()
    assert worst(said_happy(confidence, [SAD] * 9), np.arange(9), SAD) == [8, 7, 6, 5]
    assert SHOWN == 4


def test_equal_confidence_keeps_the_order_of_the_windows() -> None:
    """The sheet is the same each time: among equals the earlier window comes first."""
    judged = said_happy([0.7] * 6, [SAD] * 6)
    assert worst(judged, np.array([5, 4, 3, 2, 1, 0]), SAD) == [0, 1, 2, 3]


def test_the_sheet_shows_first_and_last_frame_and_the_answer() -> None:
    """A mistake stands in its label's row, as its first beside its last frame, under the answer; the rest is empty."""
    windows = np.random.default_rng(0).integers(0, 256, (3, 5, 48, 48), np.uint8)
    judged = said_happy([0.6, 0.9, 0.8], truth=[SAD, SAD, HAPPY])
    figure = failures.draw(judged, np.array([0, 1, 2]), windows, "net 1")
    places = np.array(figure.axes).reshape(len(LABELS), SHOWN)
    shown: dict[tuple[int, int], NDArray[np.uint8]] = {
        at: np.asarray(axes.get_images()[0].get_array()) for at, axes in np.ndenumerate(places) if axes.get_images()
    }
    assert list(shown) == [(SAD, 0), (SAD, 1)]
    for (place, picture), row in zip(shown.items(), (1, 0), strict=True):
        assert np.array_equal(picture, np.hstack([windows[row, 0], windows[row, -1]]))
        assert places[place].get_images()[0].get_clim() == (0, 255)
    assert [axes.get_title() for axes in places[SAD, :2]] == ["happy 90%", "happy 60%"]
    assert [axes.texts[0].get_text() for axes in places[:, 0]] == list(LABELS)
    assert figure.get_suptitle().startswith("net 1:")


def test_people_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of people's faces, whose rights are others', are not drawn."""
    data = write_fake_set(tmp_path / "set", subjects=3, sources=("ck+",))
    monkeypatch.setattr("sys.argv", ["failures", str(SHIPPED), "--data", str(data), "--out", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="only rendered faces may be shown"):
        failures.main()


def test_the_command_draws_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet a model on the test part, under the network's name, in a folder that is made."""
    data, out = write_fake_set(tmp_path / "set", subjects=3), tmp_path / "new" / "out"
    models = [tmp_path / "one", tmp_path / "two"]
    for folder in models:
        shutil.copytree(SHIPPED, folder)
        manifest.write(folder, manifest.read(folder) | {"name": folder.name})
    monkeypatch.setattr("sys.argv", ["failures", *map(str, models), "--data", str(data), "--out", str(out)])
    failures.main()
    assert sorted(path.name for path in out.iterdir()) == ["one-failures.png", "two-failures.png"]
    picture = cv2.imread(str(out / "one-failures.png"))
    assert picture is not None
    assert picture.std() > 5
