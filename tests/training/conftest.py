"""Fake faces for the training tests, and which of these need torch."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from training.datasets.fer2013 import COLUMN_OF_LABEL, LABELS, VOTE_COLUMNS, Faces

# A dozen pictures gain nothing by threads, and threads that wait for each other are slow on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The service's own environment has neither torch nor matplotlib; what scores and describes models is tested there too.
if find_spec("torch") is None:
    collect_ignore = [
        "test_networks.py",
        "test_motion.py",
        "test_train.py",
        "test_export.py",
        "test_augment.py",
        "test_recipes.py",
        "test_smoke.py",
        "test_table2.py",
        "test_robustness.py",
        "test_variants.py",
        "test_baselines.py",
        "test_trust.py",
        "test_failures.py",
        "test_teach.py",
    ]


def fake_faces(n: int, seed: int = 0) -> Faces:
    """Make noise with a bright stripe whose row tells the label; all annotators agree with it."""
    chance = np.random.default_rng(seed)
    labels = np.arange(n) % len(LABELS)
    images = chance.integers(0, 100, (n, 48, 48), dtype=np.uint8)
    votes = np.zeros((n, len(VOTE_COLUMNS)), dtype=np.uint8)
    for index, label in enumerate(labels):
        images[index, 6 * label : 6 * label + 6] += 150
        votes[index, COLUMN_OF_LABEL[label]] = 10
    return Faces(images, labels, votes, np.zeros(n, dtype=bool))


@pytest.fixture
def faces() -> Callable[..., Faces]:
    """Give `fake_faces`."""
    return fake_faces


@pytest.fixture
def fer2013_file(tmp_path: Path) -> Path:
    """Write four pictures a split, of which the first of PublicTest is also the first of Training."""
    made = fake_faces(12)
    made.images[4] = made.images[0]
    path = tmp_path / "fer2013.npz"
    np.savez(
        path,
        images=made.images,
        label=made.labels,
        usage=np.repeat([0, 1, 2], 4),
        ferplus_votes=made.votes,
        labels=np.array(LABELS),
        ferplus_columns=np.array(VOTE_COLUMNS),
    )
    return path
