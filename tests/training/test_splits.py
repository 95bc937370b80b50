"""How windows are cut into parts."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.window_sets import fake_clip, write_fake_set
from training import splits
from training.config import Split
from training.datasets import windowset
from training.datasets.fer2013 import LABELS
from training.datasets.windowset import WindowSet
from training.splits import Parts

pytestmark = pytest.mark.training


@pytest.fixture
def windows(tmp_path: Path) -> WindowSet:
    """Give 20 subjects of two sources with three windows of each of seven labels: 420."""
    return windowset.load(write_fake_set(tmp_path / "set", subjects=20, sources=("ck+", "baum-1")))


def all_of(parts: Parts) -> tuple[np.ndarray, ...]:
    """Give the three parts."""
    return parts.training, parts.validation, parts.test


@pytest.mark.parametrize("how", ["subject", "paper"])
def test_each_window_is_in_one_part(windows: WindowSet, how: Split) -> None:
    """The three parts hold every window once."""
    parts = all_of(splits.split(windows, how, seed=0))
    assert np.sort(np.concatenate(parts)).tolist() == list(range(420))


def test_nobody_is_in_two_parts(windows: WindowSet) -> None:
    """By subject, no subject of one part is in another."""
    subjects = [set(windows.subject[part].tolist()) for part in all_of(splits.by_subject(windows, seed=0))]
    assert [len(each) for each in subjects] == [14, 2, 4]
    assert len(set.union(*subjects)) == 20


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_each_class_and_source(windows: WindowSet, seed: int) -> None:
    """Equal subjects of two sources are cut 70/10/20 in each class and each source."""
    for part, share in zip(all_of(splits.by_subject(windows, seed)), splits.SHARES, strict=True):
        classes = np.bincount(windows.label[part], minlength=7)
        assert classes.tolist() == [round(share * 60)] * 7
        assert np.bincount(windows.source[part], minlength=2).tolist() == [round(share * 210)] * 2


def test_uneven_subjects_come_near_their_shares(tmp_path: Path) -> None:
    """Subjects who show one emotion each, in clips of any length, still give parts within 5 % of their shares."""
    chance = np.random.default_rng(0)
    clips = [fake_clip(subject, subject % 7, "ck+", frames=int(chance.integers(6, 30))) for subject in range(84)]
    windowset.write(tmp_path, clips, LABELS, sum(len(clip.frames) for clip in clips))
    windows = windowset.load(tmp_path)
    for part, share in zip(all_of(splits.by_subject(windows, seed=1)), splits.SHARES, strict=True):
        assert len(part) / len(windows) == pytest.approx(share, abs=0.05)
        assert (np.bincount(windows.label[part], minlength=7) > 0).all()


@pytest.mark.parametrize("how", ["subject", "paper"])
def test_the_seed_decides(windows: WindowSet, how: Split) -> None:
    """The same seed gives the same parts, another seed gives others."""
    first, same, other = (splits.split(windows, how, seed).test.tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_the_papers_split_cuts_windows(windows: WindowSet) -> None:
    """By window the shares are exact, and nearly every clip of the test part is in the training part as well."""
    parts = splits.split(windows, "paper", seed=0)
    assert [len(part) for part in all_of(parts)] == [294, 42, 84]
    shared = np.isin(windows.clip[parts.test], windows.clip[parts.training])
    assert shared.mean() > 0.8


def test_three_subjects_are_one_a_part(tmp_path: Path) -> None:
    """No part is left empty as long as there are subjects for all."""
    windows = windowset.load(write_fake_set(tmp_path, subjects=3))
    assert [len(part) for part in all_of(splits.by_subject(windows, seed=0))] == [21, 21, 21]


def test_two_subjects_are_too_few(tmp_path: Path) -> None:
    """Two people cannot be cut into three parts, and the error says what can."""
    windows = windowset.load(write_fake_set(tmp_path, subjects=2))
    with pytest.raises(ValueError, match="--split paper"):
        splits.by_subject(windows, seed=0)


def test_another_seed_cuts_uneven_subjects_otherwise(tmp_path: Path) -> None:
    """With subjects of many sizes, as in real data, every seed gives a cut of its own."""
    chance = np.random.default_rng(0)
    clips = [fake_clip(subject, subject % 7, "ck+", frames=int(chance.integers(6, 30))) for subject in range(40)]
    windowset.write(tmp_path, clips, LABELS, sum(len(clip.frames) for clip in clips))
    windows = windowset.load(tmp_path)
    cuts = {tuple(splits.by_subject(windows, seed).test.tolist()) for seed in range(5)}
    assert len(cuts) == 5
