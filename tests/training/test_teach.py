"""Windows that trained nets have answered, and what is learnt from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training import teach
from training.config import Config
from training.datasets import fer2013
from training.datasets.fer2013 import Faces
from training.sources.faces import FaceSource
from training.sources.taught import FACTS, TaughtSource, answers_file, windows_file
from training.train import train

pytestmark = pytest.mark.training

CONFIG = Config(epochs=1, batch=14, spoiled_share=0.2)
N = 28


class Constant(nn.Module):
    """Answers every window alike, and counts them."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.logits = torch.zeros(7)
        self.logits[label] = 50
        self.answered = 0

    def forward(self, windows: Tensor) -> Tensor:
        self.answered += len(windows)
        return self.logits.expand(len(windows), -1)


@pytest.fixture
def corpus(faces: Callable[..., Faces]) -> FaceSource:
    """Give 28 fake faces to learn from and 14 to choose by."""
    return FaceSource(faces(N), faces(14, seed=1))


@pytest.fixture
def command(fer2013_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Call the command with a teacher trained for one epoch on the twelve pictures of the file."""
    train(CONFIG, FaceSource.load(fer2013_file), tmp_path / "teacher")

    def call(*options: str) -> Path:
        out = tmp_path / "taught"
        words = f"teach --data {fer2013_file} --teachers {tmp_path / 'teacher' / 'best.pt'} --views 2 --out {out}"
        monkeypatch.setattr("sys.argv", [*words.split(), *options])
        teach.main()
        return out

    return call


def test_each_view_holds_every_picture_and_its_answer(corpus: FaceSource, tmp_path: Path) -> None:
    """Windows uint8 [n, 5, 48, 48] of the pictures in their order, each view moved otherwise, and the mean answer."""
    teach.teach(replace(CONFIG, spoiled_share=0), corpus, [Constant(0), Constant(1)], 2, tmp_path)
    views = [np.load(windows_file(tmp_path, view)) for view in range(2)]
    for windows, view in zip(views, range(2), strict=True):
        assert (windows.shape, windows.dtype) == ((N, 5, 48, 48), np.uint8)
        # Fake faces have the stripe of their label.
        bands = windows[:, -1, :42].reshape(N, 7, -1).mean(axis=2)
        assert (bands.argmax(axis=1) == corpus.training.labels).mean() > 0.8
        answers = np.load(answers_file(tmp_path, view))
        np.testing.assert_allclose(answers, np.repeat([[0.5, 0.5, 0, 0, 0, 0, 0]], N, axis=0), atol=1e-6)
    assert not np.array_equal(*views)


def test_answers_belong_to_their_windows(corpus: FaceSource, tmp_path: Path) -> None:
    """What is kept beside a window is what the teacher says of that very window."""
    run = train(CONFIG, corpus, tmp_path / "run")
    teacher = run.averaged.eval()
    teach.teach(CONFIG, corpus, [teacher], 1, tmp_path)
    windows = torch.from_numpy(np.load(windows_file(tmp_path, 0)))
    with torch.no_grad():
        expected = teacher(windows / 255).softmax(dim=1)
    torch.testing.assert_close(torch.from_numpy(np.load(answers_file(tmp_path, 0))), expected)


def test_finished_views_are_not_answered_again(corpus: FaceSource, tmp_path: Path) -> None:
    """A stopped run goes on with the view it lacks, which comes out as it would have."""
    teach.teach(CONFIG, corpus, [Constant(0)], 2, tmp_path)
    whole = windows_file(tmp_path, 1).read_bytes()
    answers_file(tmp_path, 1).unlink()
    teacher = Constant(0)
    teach.teach(CONFIG, corpus, [teacher], 2, tmp_path)
    assert teacher.answered == N
    assert windows_file(tmp_path, 1).read_bytes() == whole


def test_what_is_learnt_is_the_answer_in_its_part(corpus: FaceSource, tmp_path: Path) -> None:
    """Windows are those of the views; at weight 0 (nearly) the target is the votes', at 1 the teacher's."""
    source = taught(corpus, tmp_path)
    rows = torch.arange(N)
    drawn = {
        weight: source.drawer(learning(weight))(rows, torch.Generator().manual_seed(0)) for weight in (1e-9, 0.25, 1.0)
    }
    views = [torch.from_numpy(np.array(view)).float() for view in source.windows]
    for row, window in enumerate(drawn[1e-9][0]):
        assert any(torch.equal(window, view[row]) for view in views)
    votes = torch.from_numpy(fer2013.targets(corpus.training, CONFIG.votes_weight))
    answer = torch.eye(7)[3].expand(N, -1)
    torch.testing.assert_close(drawn[1e-9][1], votes)
    torch.testing.assert_close(drawn[0.25][1], 0.75 * votes + 0.25 * answer)
    torch.testing.assert_close(drawn[1.0][1], answer)


def learning(weight: float) -> Config:
    """A recipe that gives the teachers this weight."""
    return replace(CONFIG, taught="data/taught", teacher_weight=weight)


def taught(corpus: FaceSource, folder: Path) -> TaughtSource:
    """Two views that a teacher calls happy."""
    teach.teach(CONFIG, corpus, [Constant(3)], 2, folder)
    views = [np.load(windows_file(folder, view)) for view in range(2)]
    return TaughtSource(corpus, views, [np.load(answers_file(folder, view)) for view in range(2)], {})


def test_the_prior_is_of_what_is_learnt(corpus: FaceSource, tmp_path: Path) -> None:
    """Half of a teacher that says happy and half of even votes is a share of 0.5 + 0.5 / 7 for happy."""
    prior = taught(corpus, tmp_path).prior(learning(0.5))
    np.testing.assert_allclose(prior, [0.5 * (label == 3) + 0.5 / 7 for label in range(7)], atol=1e-6)


def test_the_command_makes_what_training_reads(command: Callable[..., Path], fer2013_file: Path) -> None:
    """The folder opens with the pictures it was made of, and a run learns from it."""
    out = command("--spoiled-share", "0.5")
    config = replace(learning(0.5), batch=4, spoiled_share=0.5)
    source = TaughtSource.load(out, FaceSource.load(fer2013_file), config)
    assert len(source.windows) == 2
    assert source.facts["motion"] == {
        "static_share": 0.5, "shift_px": 3.0, "shaken_share": 0.0, "spoiled_share": 0.5, "shrunk_share": 0.0,
    }  # fmt: skip
    run = train(config, source, out / "run")
    assert run.finished


def test_other_pictures_and_other_options_are_refused(
    command: Callable[..., Path], corpus: FaceSource, fer2013_file: Path
) -> None:
    """A folder opens, and is gone on with, by its own pictures and options only; unfinished, it is none."""
    out = command()
    with pytest.raises(ValueError, match="made of other pictures"):
        TaughtSource.load(out, corpus, Config())
    with pytest.raises(ValueError, match=r"made with spoiled-share 0\.0, not 0\.2"):
        TaughtSource.load(out, FaceSource.load(fer2013_file), CONFIG)
    with pytest.raises(ValueError, match="begun otherwise"):
        command("--shift-px", "5")
    (out / FACTS).unlink()
    with pytest.raises(FileNotFoundError):
        TaughtSource.load(out, FaceSource.load(fer2013_file), Config())


def test_a_teacher_of_other_pictures_is_refused(
    command: Callable[..., Path], corpus: FaceSource, tmp_path: Path
) -> None:
    """Who learnt from other data does not teach, and nothing is begun; the right teacher is then welcome."""
    other = tmp_path / "other"
    train(CONFIG, corpus, other)
    with pytest.raises(ValueError, match="the run was on other data"):
        command("--teachers", str(other / "best.pt"))
    assert not (tmp_path / "taught").exists()
    command()
