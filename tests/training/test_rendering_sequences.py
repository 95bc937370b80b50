"""Rendered clips: the rule of the label, splits, seeds, the frame of the face, and the command."""

import json
from collections import Counter
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from tests.training.rendering_mesh import landmarks_2d, write_mesh
from training.datasets import FRAMES, windowset
from training.datasets.fer2013 import LABELS
from training.rendering.__main__ import main
from training.rendering.camera import Camera
from training.rendering.mesh import load
from training.rendering.person import picture_frame
from training.rendering.scene import SIDE, Renderer, plain_scene, rotation
from training.rendering.sequences import (
    CLIP_FRAMES,
    CLIPS_PER_PERSON,
    NEUTRAL,
    SHARES,
    THRESHOLD,
    Split,
    labels,
    perform,
    person_number,
    render_clip,
)
from training.rendering.sheet import sheet


@pytest.fixture(scope="module")
def mesh_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the test face once."""
    return write_mesh(tmp_path_factory.mktemp("mesh") / "mesh.npz")


@pytest.fixture(scope="module")
def renderer(mesh_file: Path) -> Renderer:
    """Open the test face once."""
    return Renderer(load(mesh_file))


def test_a_window_bears_what_its_last_frame_shows() -> None:
    """At 0.3 and above the emotion, below it neutral; the four frames before do not count."""
    intensity = np.array([0, 1, 1, 1, 0.29, 0.3, 0.31, 1, 0], np.float32)
    happy = LABELS.index("happy")
    assert labels("happy", intensity).tolist() == [NEUTRAL, happy, happy, happy, NEUTRAL]
    assert labels("neutral", intensity).tolist() == [NEUTRAL] * 5


def test_no_person_is_in_two_splits() -> None:
    """Numbers of persons are disjoint, each person has each emotion twice, and numbers do not repeat."""
    persons = {split: [person_number(split, index) for index in range(2000)] for split in get_args(Split)}
    for first, second in (("train", "val"), ("val", "test"), ("train", "test")):
        assert not set(persons[first]) & set(persons[second])
    for numbers in persons.values():
        assert set(Counter(numbers[:1960]).values()) == {CLIPS_PER_PERSON}


def test_hard_clips_are_the_stated_share(renderer: Renderer) -> None:
    """Of many clips, 15 % are ambiguous and 15 % twins, within the draw's spread; what they show is so labelled."""
    chance = np.random.default_rng(0)
    acted = [perform(renderer.mesh, LABELS[index % 7], chance) for index in range(1400)]
    kinds = Counter(each.kind for each in acted)
    for kind, share in SHARES.items():
        assert kinds[kind] / len(acted) == pytest.approx(share, abs=0.035)
    for each in acted:
        peak = each.intensity.max()
        assert (peak == 0) == (each.emotion == "neutral")
        if each.kind == "ambiguous":
            assert peak <= 0.5
            assert each.emotion != "neutral" or each.weights.any()
        elif peak:
            assert peak >= THRESHOLD


def test_the_same_numbers_give_the_same_bytes(renderer: Renderer, mesh_file: Path) -> None:
    """A clip depends on mesh, split, seed and index only, not on what was rendered before; another seed differs."""
    render_clip(renderer, "train", 1, 20)
    first, again = render_clip(renderer, "train", 1, 3), render_clip(Renderer(load(mesh_file)), "train", 1, 3)
    other = render_clip(renderer, "train", 2, 3)
    assert first.frames.tobytes() == again.frames.tobytes()
    assert (first.name, first.labels.tolist()) == (again.name, again.labels.tolist())
    assert first.frames.tobytes() != other.frames.tobytes()
    assert first.subject != other.subject


def test_a_twin_reaches_each_frame_from_both_sides(renderer: Renderer) -> None:
    """A window on the way up and one on the way down end in the same bytes and the same label."""
    twin = next(clip for index in range(100) if "twin" in (clip := render_clip(renderer, "train", 0, index)).name)
    assert twin.frames.shape == (CLIP_FRAMES, 48, 48)
    np.testing.assert_array_equal(twin.frames, twin.frames[::-1])
    rising, falling = 8, CLIP_FRAMES - 1 - 8
    assert twin.labels[rising - FRAMES + 1] == twin.labels[falling - FRAMES + 1]


def test_the_face_stands_where_fer2013_has_it() -> None:
    """Eyes at 39 % and mouth at 77 % of the side, eyes 36.6 % apart, when the face's proportions allow all three."""
    marks = np.column_stack([landmarks_2d(), np.zeros(68)]).astype(np.float32)
    eyes = np.linalg.norm(marks[36:42].mean(0) - marks[42:48].mean(0))
    height = marks[36:48, 1].mean() - marks[[60, 62, 64, 66], 1].mean()
    marks[:, 1] *= (eyes / 0.366) * (0.77 - 0.39) / height
    center, side = picture_frame(marks)
    assert eyes / side == pytest.approx(0.366)
    assert 0.5 - (marks[36:48, 1].mean() - center[1]) / side == pytest.approx(0.39)
    assert 0.5 - (marks[[60, 62, 64, 66], 1].mean() - center[1]) / side == pytest.approx(0.77)


def test_the_head_turns_as_named() -> None:
    """Yaw moves the nose to the right, pitch down, roll turns the right ear up; the matrix keeps lengths."""
    nose, ear = np.array([0, 0, 1]), np.array([1, 0, 0])
    assert (rotation(0.1, 0, 0) @ nose)[0] > 0
    assert (rotation(0, 0.1, 0) @ nose)[1] < 0
    assert (rotation(0, 0, 0.1) @ ear)[1] > 0
    turn = rotation(0.3, -0.2, 0.1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)


def test_light_from_the_left_makes_the_left_brighter(renderer: Renderer) -> None:
    """The plain scene is lit from above left; the drawn face covers the middle and is not the background."""
    picture = renderer.draw(renderer.person(0, 0), np.zeros_like(renderer.mesh.neutral), plain_scene(1), 0)
    assert (picture.dtype, picture.shape) == (np.float32, (SIDE, SIDE))
    assert picture[50:70, 20:35].mean() > picture[50:70, 61:76].mean()
    assert (picture[40:60, 40:60] != 90).all()


def test_a_clean_camera_halves_the_picture_and_a_bad_one_changes_it() -> None:
    """Without faults a crop is the mean of 2 x 2 pixels; noise, JPEG and blur change it; a box hides a part."""
    chance = np.random.default_rng(0)
    levels = chance.uniform(0, 255, (SIDE, SIDE)).astype(np.float32)
    picture = np.asarray(cv2.GaussianBlur(levels, (0, 0), 1), np.float32)
    mean = np.rint(picture).reshape(48, 2, 48, 2).mean((1, 3))
    clean = Camera().shoot(picture.copy(), chance)
    assert (clean.dtype, clean.shape) == (np.uint8, (48, 48))
    np.testing.assert_allclose(clean, mean, atol=1)
    for fault in (Camera(blur_px=1.0), Camera(noise_levels=8.0), Camera(jpeg_quality=40)):
        assert not np.array_equal(fault.shoot(picture.copy(), chance), clean)
    hidden = Camera(box=(20, 30, 10, 8, 7)).shoot(picture.copy(), chance)
    assert (hidden[15:19, 10:15] == 7).all()


def test_the_command_writes_a_set_whatever_the_number_of_workers(
    mesh_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process and two write the same files; the set opens, and the report counts it."""
    for workers in ("1", "2"):
        given = ["--mesh", str(mesh_file), "--out", str(tmp_path / workers), "--sequences", "16", "--seed", "4"]
        main([*given, "--split", "val", "--workers", workers])
    for file in sorted((tmp_path / "1").iterdir()):
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes(), file.name
    made = windowset.load(tmp_path / "1")
    assert len(made) == 16 * (CLIP_FRAMES - FRAMES + 1)
    assert made.names["subjects"] == ["rendered/4-00008", "rendered/4-00018"]
    assert made.names["sources"] == ["rendered"]
    assert made.names["labels"] == list(LABELS)
    report = json.loads((tmp_path / "1" / "report.json").read_text())
    assert sum(report["windows_by_label"].values()) == len(made)
    assert sum(report["clips_by_kind"].values()) == 16
    assert (report["label_threshold"], report["shares_aimed_at"]) == (THRESHOLD, SHARES)
    assert json.dumps(report, indent=2) in capsys.readouterr().out


def test_the_sheet_has_a_row_a_class_and_one_over_time(renderer: Renderer) -> None:
    """Eight rows of eight pictures, with a margin and a line for the labels."""
    drawn = sheet(renderer, 0)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (8 * 96 + 22, 76 + 8 * 96)
