"""What is done to windows when robustness is measured, and that it is done to every model alike."""

import json
import shutil
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training import document, manifest, robustness
from training.evaluate import BATCH, open_model
from training.robustness import BOX_OFF, FACE_PX, Change, Result, conditions, measure, open_windows
from training.spoil import KINDS, SPOILERS, Kind, shrink

pytestmark = pytest.mark.training

SHIPPED = Path(__file__).parents[2] / "model_store" / "timeconv-mini-xception" / "1"
MADE_BY: dict[str, str | None] = {"command": "c", "commit": None, "date": "d", "processor": "p"}

Windows = NDArray[np.uint8]


class Recorder:
    """Says one label for everything, and keeps what it was shown."""

    def __init__(self, label: int = 0) -> None:
        self.shown: list[Windows] = []
        self._answer = np.eye(7, dtype=np.float32)[label]

    def __call__(self, windows: Windows) -> NDArray[np.float32]:
        self.shown.append(windows.copy())
        return np.tile(self._answer, (len(windows), 1))


@pytest.fixture
def noise() -> Windows:
    """Give 60 windows of noise, whose frames all differ."""
    return np.random.default_rng(0).integers(0, 256, (60, 5, 48, 48), np.uint8)


@pytest.fixture
def dots() -> Windows:
    """Give 60 windows of five equal frames: a soft bright dot in the middle of black."""
    y, x = np.mgrid[:48, :48] - 23.5
    frame = np.rint(250 * np.exp(-(x**2 + y**2) / 18)).astype(np.uint8)
    return np.tile(frame, (60, 5, 1, 1))


def change_of(group: str, title: str) -> Change:
    """Find what is done under a condition."""
    (found,) = [each.change for each in conditions() if (each.group, each.title) == (group, title)]
    return found


def moves(windows: Windows) -> NDArray[np.float64]:
    """How far the dot stands from the middle, x and y [n, 5, 2] in pixels."""
    weights = windows / windows.sum(axis=(2, 3), keepdims=True)
    place = np.arange(48) - 23.5
    return np.stack([(weights.sum(axis=2) * place).sum(axis=2), (weights.sum(axis=3) * place).sum(axis=2)], axis=2)


def shown_by_condition(windows: Windows) -> dict[tuple[str, str], Windows]:
    """What a model is shown under each condition."""
    recorder = Recorder()
    results = measure({"model": recorder}, windows, np.zeros(len(windows), np.int64))
    return {(each.group, each.title): shown for each, shown in zip(results, recorder.shown, strict=True)}


def copy_shipped(folder: Path, name: str) -> Path:
    """Copy the shipped network under another name."""
    shutil.copytree(SHIPPED, folder / name)
    manifest.write(folder / name, manifest.read(SHIPPED) | {"name": name})
    return folder / name


def test_every_condition_is_measured_once() -> None:
    """Beside nothing: five kinds in one or two frames, the last or not; boxes off in two ways; small faces."""
    named = [(each.group, each.title) for each in conditions()]
    spoiled = [(group, title) for group, title in named if "spoiled" in group]
    assert named[0] == ("clean", "nothing")
    assert len(spoiled) == 2 * 2 * len(KINDS)
    assert {title for _, title in spoiled} == {"motion blur", "hand", "lost crop", "jpeg", "darkness"}
    assert [title for group, title in named if group == "box off, all frames alike"] == ["5%", "10%", "15%"]
    assert [title for group, title in named if group == "box off, each frame anew"] == ["5%", "10%", "15%"]
    assert [title for group, title in named if group == "small face"] == ["40 px", "32 px", "24 px"]
    assert len(set(named)) == len(named) == 1 + 20 + 2 * len(BOX_OFF) + len(FACE_PX)


def test_nothing_is_done_to_clean_windows(noise: Windows) -> None:
    """The first condition shows windows as they are."""
    assert np.array_equal(change_of("clean", "nothing")(noise, np.random.default_rng(0)), noise)


def test_conditions_leave_what_they_are_given(noise: Windows) -> None:
    """Every condition makes windows of its own of the same shape and type; equal chance, equal windows."""
    given, before = noise[:3], noise[:3].copy()
    for condition in conditions():
        first, again = (condition.change(given, np.random.default_rng(1)) for _ in range(2))
        assert first.shape == given.shape
        assert first.dtype == np.uint8
        assert np.array_equal(first, again)
        assert np.array_equal(given, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("where", "last"), [("the last among them", True), ("not the last", False)])
def test_as_many_frames_are_spoiled_as_is_said(noise: Windows, kind: Kind, count: int, where: str, last: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Exactly one or two frames of each window are spoiled: the last always or never, the others by chance."""
    spoil = change_of(f"{count} of 5 spoiled, {where}", kind.replace("_", " "))
    changed = (spoil(noise, np.random.default_rng(0)) != noise).any(axis=(2, 3))
    assert (changed.sum(axis=1) == count).all()
    assert (changed[:, -1] == last).all()
    assert changed[:, :-1].any(axis=0).tolist() == [count > last] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_spoiled_by_the_kind_of_the_title(
    noise: Windows, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is called darkness is darkness: only the titled kind is asked for frames."""
    monkeypatch.setitem(SPOILERS, kind, lambda frame, _: np.full_like(frame, 7))
    spoil = change_of("2 of 5 spoiled, the last among them", kind.replace("_", " "))
    painted = (spoil(noise, np.random.default_rng(0)) == 7).all(axis=(2, 3))
    assert (painted.sum(axis=1) == 2).all()


@pytest.mark.parametrize("share", BOX_OFF)
@pytest.mark.parametrize("way", ["all frames alike", "each frame anew"])
def test_the_box_is_off_by_the_share_of_its_side(dots: Windows, share: float, way: str) -> None:
    """In every frame the dot has moved by 5, 10 or 15 % of 48 pixels (to a tenth of a pixel), to all sides."""
    moved = moves(change_of(f"box off, {way}", f"{share:.0%}")(dots, np.random.default_rng(0)))
    np.testing.assert_allclose(np.hypot(moved[..., 0], moved[..., 1]), share * 48, atol=0.1)
    assert set(map(tuple, np.sign(moved[:, 0]).tolist())) == {(-1, -1), (-1, 1), (1, -1), (1, 1)}


def test_a_biased_box_is_off_in_one_direction(dots: Windows) -> None:
    """Alike: the five frames of a window are moved by the same pixels, those of another window by others."""
    moved = moves(change_of("box off, all frames alike", "15%")(dots, np.random.default_rng(0)))
    assert (moved == moved[:, :1]).all()
    assert len(np.unique(moved[:, 0, 0].round(2))) > 30


def test_a_shaking_box_is_off_in_several_directions(dots: Windows) -> None:
    """Anew: no two frames of a window are moved alike."""
    moved = moves(change_of("box off, each frame anew", "15%")(dots, np.random.default_rng(0)))
    assert all(len(np.unique(window, axis=0)) == 5 for window in moved)


def test_beyond_the_picture_its_border_is_repeated() -> None:
    """A white picture stays white wherever the box goes."""
    white = np.full((10, 5, 48, 48), 255, np.uint8)
    assert (change_of("box off, each frame anew", "15%")(white, np.random.default_rng(0)) == 255).all()


@pytest.mark.parametrize("side", FACE_PX)
def test_small_faces_are_small_in_all_frames(noise: Windows, side: int) -> None:
    """Every frame keeps what a face so many pixels wide would have left, as training shrinks it."""
    small = change_of("small face", f"{side} px")(noise[:2], np.random.default_rng(0))
    assert np.array_equal(small, [shrink(window, side) for window in noise[:2]])


def test_every_model_sees_the_same_windows(noise: Windows) -> None:
    """Under each condition the second model is shown, pixel for pixel, what the first was."""
    one, two = Recorder(0), Recorder(1)
    measure({"one": one, "two": two}, noise[:4], np.zeros(4, np.int64))
    assert len(one.shown) == len(list(conditions()))
    assert all(np.array_equal(*pair) for pair in zip(one.shown, two.shown, strict=True))


def test_accuracy_is_the_share_that_is_right(noise: Windows) -> None:
    """A model that always says angry is right in two of three windows, one that says fear in none."""
    truth = np.array([0, 3, 0])
    results = measure({"angry": Recorder(0), "fear": Recorder(2)}, noise[:3], truth)
    assert results[0] == Result("clean", "nothing", {"angry": 0.6667, "fear": 0.0})
    assert [(each.group, each.title) for each in results] == [(each.group, each.title) for each in conditions()]


def test_measuring_again_shows_the_same(noise: Windows) -> None:
    """Chance is seeded: a second measurement changes windows as the first did."""
    first, again = (shown_by_condition(noise[:4]) for _ in range(2))
    assert all(np.array_equal(first[key], again[key]) for key in first)


def test_conditions_do_not_share_their_chance(dots: Windows) -> None:
    """A window's box goes one way at 5 % and another at 15 %."""
    shown = shown_by_condition(dots[:4])
    moved = [moves(shown["box off, all frames alike", title])[:, 0] for title in ("5%", "15%")]
    angles = [np.arctan2(each[:, 1], each[:, 0]) for each in moved]
    assert (np.abs(angles[0] - angles[1]) > 0.1).all()


def test_a_condition_more_changes_no_other(noise: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown under a condition does not depend on which others are measured before it."""
    every = shown_by_condition(noise[:4])
    monkeypatch.setattr(robustness, "KINDS", KINDS[2:])
    monkeypatch.setattr(robustness, "BOX_OFF", BOX_OFF[1:])
    fewer = shown_by_condition(noise[:4])
    assert len(fewer) == len(every) - 2 * 4 - 2
    assert all(np.array_equal(every[key], shown) for key, shown in fewer.items())


def test_many_windows_go_in_batches() -> None:
    """More windows than a batch holds are answered in their order, none lost."""
    windows = np.repeat(np.arange(600) % 7, 5 * 48 * 48).reshape(600, 5, 48, 48).astype(np.uint8)
    sizes: list[int] = []

    def by_brightness(batch: Windows) -> NDArray[np.float32]:
        sizes.append(len(batch))
        return np.eye(7, dtype=np.float32)[batch[:, 0, 0, 0]]

    assert robustness._say(by_brightness, windows).tolist() == (np.arange(600) % 7).tolist()
    assert sizes == [BATCH, BATCH, 600 - 2 * BATCH]


def test_pictures_that_can_be_judged_are_moved(fer2013_file: Path) -> None:
    """Of PublicTest's four, a Training picture's copy and the one nobody could name are left out; frames differ."""
    with np.load(fer2013_file) as stored:
        held = dict(stored)
    held["ferplus_votes"][6] = 0
    np.savez(fer2013_file, **held)
    windows, truth = open_windows(fer2013_file)
    assert truth.tolist() == [5, 0]
    assert windows.shape == (2, 5, 48, 48)
    assert windows.dtype == np.uint8
    for window, picture in zip(windows, held["images"][[5, 7]], strict=True):
        assert len({frame.tobytes() for frame in window}) == 5
        # The stripe is still about where it was, so the window shows its own picture.
        rows = [frames.astype(float).mean(axis=-1) for frames in (window, picture)]
        assert abs(rows[0].mean(axis=0).argmax() - rows[1].argmax()) < 12
    assert np.array_equal(open_windows(fer2013_file)[0], windows)


def test_windows_are_moved_only() -> None:
    """Blur, boxes, noise and shaking would be bad frames of their own; still windows would be none that moves."""
    shares = {name: value for name, value in asdict(robustness.MOVED).items() if name.endswith("_share")}
    assert set(shares.values()) == {0.0}
    assert robustness.MOVED.rotation_deg > 0


def test_the_tables_means_are_over_all_kinds() -> None:
    """Laid out by `training.document`, each group is in one piece, and each of the four spoiled ones has one mean."""
    results = [
        Result(each.group, each.title, {"net@1": KINDS.index(kind) / 10 if (kind := _kind(each.title)) else 0.9})
        for each in conditions()
    ]
    measured = {"made_by": MADE_BY, "windows": 3, "models": ["net@1"], "results": [asdict(each) for each in results]}
    rows = [line.strip("| ").split(" | ") for line in document.robustness(measured).splitlines()[2:-2]]
    groups = [group for group, _ in groupby(row[0] for row in rows)]
    assert len(groups) == len(set(groups))
    assert [row[2] for row in rows if row[1] == "**mean**"] == ["**0.200**"] * 4


def _kind(title: str) -> Kind | None:
    return next((kind for kind in KINDS if kind.replace("_", " ") == title), None)


def test_the_command_writes_every_models_accuracies(
    fer2013_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file names models by version and has a result a condition, and how it was made; its folder is made."""
    out, models = tmp_path / "new" / "robustness.json", [copy_shipped(tmp_path, name) for name in ("one", "two")]
    monkeypatch.setattr("sys.argv", ["robustness", *map(str, models), "--data", str(fer2013_file), "--out", str(out)])
    robustness.main()
    written = json.loads(out.read_text())
    windows, truth = open_windows(fer2013_file)
    accuracy = float((open_model(SHIPPED)(windows).argmax(axis=1) == truth).mean())
    assert written["windows"] == 3
    assert written["models"] == ["one@1", "two@1"]
    assert written["made_by"]["command"].startswith(f"python -m training.robustness {models[0]} {models[1]} --data")
    assert len(written["results"]) == len(list(conditions()))
    assert written["results"][0]["accuracy"] == pytest.approx({"one@1": accuracy, "two@1": accuracy}, abs=1e-4)
    assert json.loads(capsys.readouterr().out) == written["results"]
