"""The two recipes: their schedules, their fields and the command line."""

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

import pytest
import torch

from training.config import PAPER, RECIPES, Config
from training.schedule import learning_rate, step_factor

pytestmark = pytest.mark.training


def parsed(*words: str) -> Config:
    """Read a command line."""
    parser = ArgumentParser()
    Config.add_options(parser)
    return Config.from_options(vars(parser.parse_args(words)))


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (1, 1e-3),
        (80, 1e-3),
        (81, 1e-4),
        (120, 1e-4),
        (121, 1e-5),
        (160, 1e-5),
        (161, 1e-6),
        (180, 1e-6),
        (181, 0.5e-6),
        (200, 0.5e-6),
    ],
)
def test_the_papers_rate_falls_in_steps(epoch: int, rate: float) -> None:
    """From epochs 81, 121, 161 and 181 on, first step and last alike, the rate of 1e-3 is times the paper's factors."""
    per_epoch = 7
    for step in ((epoch - 1) * per_epoch, epoch * per_epoch - 1):
        assert learning_rate(PAPER, step, PAPER.epochs * per_epoch) == pytest.approx(rate)


def test_a_shorter_run_keeps_the_papers_epochs() -> None:
    """The steps are where the paper has them, however many epochs there are."""
    short = replace(PAPER, epochs=90)
    assert [learning_rate(short, step, 180) for step in (159, 160)] == pytest.approx([1e-3, 1e-4])
    assert step_factor(1) == 1.0


def test_the_default_rate_rises_then_falls_to_zero() -> None:
    """The learning rate peaks at the end of the warm-up and ends near zero."""
    rates = [learning_rate(Config(), step, 100) for step in range(100)]
    assert max(rates) == rates[10] == Config().peak_learning_rate
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001 * Config().peak_learning_rate


def test_without_options_it_is_the_shipped_networks_recipe() -> None:
    """What trained the shipped network is what the command does by itself."""
    assert parsed() == Config() == RECIPES["default"]
    shipped = Config()
    assert (shipped.network, shipped.epochs, shipped.batch) == ("timeconv-mini-xception", 45, 128)
    assert (shipped.peak_learning_rate, shipped.weight_decay, shipped.averaging) == (6e-3, 1e-2, 0.999)
    assert (shipped.precision, shipped.patience, shipped.split) == ("bf16", 0, "subject")


def test_the_papers_recipe_is_the_papers() -> None:
    """200 epochs of Adam at 1e-3, hard labels, its augmentation and its split, and no early stop."""
    paper = parsed("--recipe", "paper")
    assert paper == PAPER
    assert (paper.epochs, paper.schedule, paper.peak_learning_rate) == (200, "steps", 1e-3)
    assert (paper.weight_decay, paper.averaging, paper.votes_weight, paper.patience) == (0, 0, 0, 0)
    assert (paper.augmentation, paper.split) == ("paper", "paper")


def test_adamw_without_decay_is_adam() -> None:
    """The paper's optimiser is ours with its decay at zero: both end at the same weights, bit for bit."""
    ends = []
    for make in (torch.optim.Adam, torch.optim.AdamW):
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 64))
        optimizer = make([weights], lr=PAPER.peak_learning_rate, weight_decay=0.0, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            (weights.sin() ** 2).sum().backward()  # type: ignore[no-untyped-call]  # torch types it so
            optimizer.step()
        ends.append(weights.detach())
    assert torch.equal(*ends)


def test_an_option_overrides_one_field() -> None:
    """An option changes its field and leaves the recipe's others."""
    assert parsed("--recipe", "paper", "--split", "subject") == replace(PAPER, split="subject")
    assert parsed("--epochs", "3", "--patience", "5") == Config(epochs=3, patience=5)


def test_a_zero_overrides_too() -> None:
    """An option of zero is not taken for none."""
    assert parsed("--averaging", "0").averaging == 0.0


@pytest.mark.parametrize("words", [("--recipe", "mine"), ("--split", "clip"), ("--precision", "fp8")])
def test_an_unknown_choice_is_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A word that no field knows ends the command, and the message names the words there are."""
    with pytest.raises(SystemExit):
        parsed(*words)
    assert "choose from" in capsys.readouterr().err


def test_changed_options_name_what_differs() -> None:
    """A run's command names only what differs from the recipe."""
    assert Config(seed=3, peak_learning_rate=0.01).changed_options() == ["--peak-learning-rate=0.01", "--seed=3"]
    assert replace(PAPER, epochs=9).changed_options() == ["--recipe=paper", "--epochs=9"]


@pytest.mark.parametrize("config", [Config(), PAPER, Config(seed=2, batch=4), replace(PAPER, split="subject")])
def test_the_named_options_repeat_the_run(config: Config) -> None:
    """The options that are named lead back to the config."""
    assert parsed(*config.changed_options()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low_side": 64, "low_share": 0.5}, "low-side 64 is not in 16 to 48"),
        ({"spoiled_share": 7.0}, "spoiled-share 7.0"),
        ({"peak_learning_rate": float("nan")}, "peak-learning-rate nan"),
        ({"rendered": "set", "rendered_share": 1.0}, "rendered-share 1.0"),
        ({"mixup": -0.3}, "mixup -0.3"),
        ({"patience": -1}, "patience -1"),
        ({"epoch_windows": 3}, "less than a batch"),
        ({"low_side": 32}, "low-side and low-share only work together"),
        ({"rendered_share": 0.1}, "rendered and rendered-share only work together"),
        ({"teacher_weight": 0.5}, "taught and teacher-weight only work together"),
    ],
)
def test_what_no_run_can_follow_is_refused(changes: dict[str, Any], message: str) -> None:
    """A value out of its range, and an option that would do nothing alone, are named."""
    with pytest.raises(ValueError, match=message):
        replace(Config(), **changes)


def test_a_stored_config_may_be_older_but_not_stranger() -> None:
    """Fields that came later have their defaults; one that there is no more is named."""
    stored = {"network": "timeconv-resnet20", "epochs": 3}
    assert Config.stored(stored) == Config(network="timeconv-resnet20", epochs=3)
    with pytest.raises(ValueError, match="another version: it has tutor"):
        Config.stored(stored | {"tutor": ""})
