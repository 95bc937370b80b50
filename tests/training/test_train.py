"""Training on fake faces: it learns, and it resumes exactly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.config import Config
from training.datasets.fer2013 import Faces
from training.train import Corpus, Run, learning_rate, train

pytestmark = pytest.mark.training

CONFIG = Config(epochs=3, batch=14)


@pytest.fixture
def corpus(faces: Callable[..., Faces]) -> Corpus:
    """Give 28 fake faces to learn from (two steps an epoch) and 14 to choose by."""
    return Corpus(faces(28), faces(14, seed=1))


def test_steps_lower_the_loss(faces: Callable[..., Faces]) -> None:
    """A few steps on one batch lower the loss on it."""
    run = Run(replace(CONFIG, epochs=6, static_share=1.0))
    losses = [run.train_epoch(faces(14)) for _ in range(6)]
    assert losses[-1] < losses[0]


def test_a_resumed_run_equals_an_unbroken_one(corpus: Corpus, tmp_path: Path) -> None:
    """Weights, average and optimiser end bit for bit the same when the run stops after its first epoch."""
    unbroken = train(CONFIG, corpus, tmp_path / "unbroken")
    train(CONFIG, corpus, tmp_path / "broken", until=1)
    resumed = train(CONFIG, corpus, tmp_path / "broken")
    assert resumed.epoch == unbroken.epoch == CONFIG.epochs
    for part in ("network", "averaged"):
        expected, actual = getattr(unbroken, part).state_dict(), getattr(resumed, part).state_dict()
        assert all(torch.equal(expected[name], actual[name]) for name in expected)
    moments = [run.optimizer.state_dict()["state"][0]["exp_avg"] for run in (unbroken, resumed)]
    assert torch.equal(*moments)


def test_each_epoch_is_logged_once(corpus: Corpus, tmp_path: Path) -> None:
    """The log has a header and a row an epoch, also over a stop and a resumption."""
    train(CONFIG, corpus, tmp_path, until=2)
    train(CONFIG, corpus, tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def test_another_config_does_not_resume(corpus: Corpus, tmp_path: Path) -> None:
    """A folder that holds a run of another recipe is refused instead of mixed up."""
    train(CONFIG, corpus, tmp_path, until=1)
    with pytest.raises(ValueError, match="another config"):
        train(replace(CONFIG, seed=1), corpus, tmp_path)


def test_the_rate_rises_then_falls_to_zero() -> None:
    """The learning rate peaks at the end of the warm-up and ends near zero."""
    rates = [learning_rate(Config(), step, 100) for step in range(100)]
    assert max(rates) == rates[10] == Config().peak_learning_rate
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001 * Config().peak_learning_rate


def test_changed_options_name_what_differs() -> None:
    """A run's command names only what differs from the recipe."""
    assert Config(seed=3, peak_learning_rate=0.01).changed_options() == ["--peak-learning-rate=0.01", "--seed=3"]
