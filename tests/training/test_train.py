"""Training on fake faces and fake windows: it learns, it resumes exactly, and it leaves a folder of results."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.window_sets import fake_clip, write_fake_set
from training.config import PAPER, Config
from training.datasets import windowset
from training.datasets.fer2013 import LABELS, Faces
from training.networks import NETWORKS
from training.sources import Draw, Source, Verdict
from training.sources.faces import FaceSource
from training.sources.mixed import MixedSource
from training.sources.windows import WindowSource
from training.train import Run, _batches, _mix, main, open_source, train

pytestmark = pytest.mark.training

CONFIG = Config(epochs=3, batch=14)
# It has dropout, whose chance is torch's own.
DROPPING_OUT = replace(CONFIG, network="timeconv-mobilenetv2", epochs=2, batch=64)


@pytest.fixture
def corpus(faces: Callable[..., Faces]) -> FaceSource:
    """Give 28 fake faces to learn from (two steps an epoch) and 14 to choose by."""
    return FaceSource(faces(28), faces(14, seed=1))


@pytest.fixture
def windows(tmp_path: Path) -> WindowSource:
    """Give 210 fake windows of ten subjects, cut by subject."""
    return WindowSource.load(write_fake_set(tmp_path / "set"), CONFIG)


class Killed(BaseException):
    """The process ends, wherever it is."""


@dataclass(frozen=True)
class DyingSource:
    """A source whose process is killed when it draws the given batch."""

    source: Source
    batches: list[int]

    def __len__(self) -> int:
        return len(self.source)

    def drawer(self, config: Config) -> Draw:
        draw = self.source.drawer(config)

        def dying(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            self.batches[0] -= 1
            if self.batches[0] < 0:
                raise Killed
            return draw(rows, generator)

        return dying

    def validate(self, network: nn.Module, device: str) -> Verdict:
        return self.source.validate(network, device)

    def judge(self, network: nn.Module, device: str) -> Verdict:
        return self.source.judge(network, device)

    def provenance(self, config: Config) -> str:
        return self.source.provenance(config)

    def describe(self) -> dict[str, object]:
        return self.source.describe()


@dataclass(frozen=True)
class SeeingSource:
    """A source that writes down which rows are drawn."""

    source: Source
    rows: list[list[int]]

    def __len__(self) -> int:
        return len(self.source)

    def drawer(self, config: Config) -> Draw:
        draw = self.source.drawer(config)

        def seeing(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            self.rows.append(rows.tolist())
            return draw(rows, generator)

        return seeing


@dataclass(frozen=True)
class ScriptedSource(DyingSource):
    """A source whose validation scores are written down."""

    figures: list[float]

    def validate(self, network: nn.Module, device: str) -> Verdict:
        return replace(self.source.validate(network, device), figure=self.figures.pop(0))


def assert_equal_runs(expected: Run, actual: Run) -> None:
    """Weights, average and optimiser are the same, bit for bit."""
    assert actual.epoch == expected.epoch
    for part in ("network", "averaged"):
        held, now = getattr(expected, part).state_dict(), getattr(actual, part).state_dict()
        assert all(torch.equal(held[name], now[name]) for name in held)
    states = [run.optimizer.state_dict()["state"] for run in (expected, actual)]
    for index, state in states[0].items():
        assert all(torch.equal(value, states[1][index][name]) for name, value in state.items())


def test_steps_lower_the_loss(faces: Callable[..., Faces]) -> None:
    """A few steps on one batch lower the loss on it."""
    run = Run(replace(CONFIG, epochs=6, static_share=1.0))
    losses = [run.train_epoch(FaceSource(faces(14), faces(14))) for _ in range(6)]
    assert losses[-1] < losses[0]


def test_steps_on_windows_lower_the_loss(windows: WindowSource) -> None:
    """A few epochs on windows lower the loss on them."""
    run = Run(replace(CONFIG, epochs=4))
    losses = [run.train_epoch(windows) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_a_resumed_run_equals_an_unbroken_one(corpus: FaceSource, tmp_path: Path) -> None:
    """Weights, average and optimiser end bit for bit the same when the run stops after its first epoch."""
    unbroken = train(CONFIG, corpus, tmp_path / "unbroken")
    train(CONFIG, corpus, tmp_path / "broken", until=1)
    assert_equal_runs(unbroken, train(CONFIG, corpus, tmp_path / "broken"))


@pytest.mark.parametrize("config", [CONFIG, replace(PAPER, epochs=3, split="subject"), DROPPING_OUT])
def test_a_killed_run_on_windows_equals_an_unbroken_one(windows: WindowSource, tmp_path: Path, config: Config) -> None:
    """Killed in the middle of its second epoch, a run on windows ends as if nothing had happened, scores and all."""
    unbroken = train(config, windows, tmp_path / "unbroken")
    in_the_second = len(windows) // config.batch + 1
    with pytest.raises(Killed):
        train(config, DyingSource(windows, [in_the_second]), tmp_path / "broken")
    assert_equal_runs(unbroken, train(config, windows, tmp_path / "broken"))
    scores = [(tmp_path / name / "scores.json").read_text() for name in ("unbroken", "broken")]
    assert scores[0] == scores[1]


def test_a_killed_run_with_every_option_equals_an_unbroken_one(corpus: FaceSource, tmp_path: Path) -> None:
    """So does one that starts from another run's weights, blends, spoils, shrinks and changes its size."""
    train(replace(CONFIG, epochs=1), corpus, tmp_path / "first")
    config = replace(
        CONFIG,
        start=str(tmp_path / "first" / "best.pt"),
        shaken_share=0.5,
        mixup=0.3,
        spoiled_share=0.5,
        shrunk_share=0.5,
        low_side=32,
        low_share=0.4,
    )
    unbroken = train(config, corpus, tmp_path / "unbroken")
    with pytest.raises(Killed):
        train(config, DyingSource(corpus, [3]), tmp_path / "broken")
    assert_equal_runs(unbroken, train(config, corpus, tmp_path / "broken"))


def test_another_network_is_no_start(corpus: FaceSource, tmp_path: Path) -> None:
    """A start from another kind of network is refused, as is one from a file that is no checkpoint."""
    train(replace(CONFIG, epochs=1), corpus, tmp_path)
    (tmp_path / "text.pt").write_text("weights")
    for name, network, message in (
        ("best.pt", "wide-resnet", "not a wide-resnet"),
        ("text.pt", "wide-resnet", "no checkpoint"),
    ):
        with pytest.raises(ValueError, match=message):
            Run.begin(replace(CONFIG, network=network, start=str(tmp_path / name)))


def test_a_start_that_cannot_be_had_costs_nothing(corpus: FaceSource, tmp_path: Path) -> None:
    """What a folder holds stays when a new run in it cannot begin."""
    train(CONFIG, corpus, tmp_path)
    (tmp_path / "last.pt").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileNotFoundError):
        train(replace(CONFIG, start=str(tmp_path / "mistyped.pt")), corpus, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_remembers_how_it_was_begun(corpus: FaceSource, tmp_path: Path) -> None:
    """Commit and machine stay those of the first start, whoever goes on with the run."""
    train(CONFIG, corpus, tmp_path, until=1)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"threads": ', '"threads": 1000'))
    train(CONFIG, corpus, tmp_path)
    assert json.loads(path.read_text())["machine"]["threads"] >= 1000


def test_options_for_faces_are_not_for_windows(tmp_path: Path) -> None:
    """A folder of windows is neither taught nor mixed, and says so."""
    folder = write_fake_set(tmp_path / "set")
    with pytest.raises(ValueError, match="taught is for FER2013"):
        open_source(folder, replace(CONFIG, taught="data/taught", teacher_weight=0.5))


def test_a_run_starts_from_the_averaged_weights_it_is_given(corpus: FaceSource, tmp_path: Path) -> None:
    """Both the network and its average begin as the other run's average ended."""
    first = train(replace(CONFIG, epochs=1), corpus, tmp_path)
    second = Run.begin(replace(CONFIG, start=str(tmp_path / "last.pt")))
    for part in (second.network, second.averaged):
        expected, actual = first.averaged.state_dict(), part.state_dict()
        assert all(torch.equal(expected[name], actual[name]) for name in expected)


class Recorder(nn.Module):
    """Keeps what it was shown, and answers the same to everything."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(7))
        self.shown: list[Tensor] = []

    def forward(self, window: Tensor) -> Tensor:
        self.shown.append(window.detach())
        return self.logits.expand(len(window), -1)


def test_the_first_epochs_are_small_and_the_others_whole(corpus: FaceSource) -> None:
    """Half of four epochs at 32 pixels are the first two."""
    run = Run(replace(CONFIG, epochs=4, low_side=32, low_share=0.5))
    sides = []
    for _ in range(4):
        run.network = recorder = Recorder()
        run.optimizer = torch.optim.AdamW(recorder.parameters())
        run.averaged = Recorder()
        run.train_epoch(corpus)
        sides.append({window.shape[-1] for window in recorder.shown})
    assert sides == [{32}, {32}, {48}, {48}]


def test_a_short_epoch_has_other_windows_each_time(corpus: FaceSource) -> None:
    """An epoch of 14 windows is one batch of the 28 pictures, and the next one's is another."""
    seen = SeeingSource(corpus, [])
    run = Run(replace(CONFIG, epochs=2, epoch_windows=14))
    for _ in range(2):
        run.train_epoch(seen)
    assert [len(set(rows)) for rows in seen.rows] == [14, 14]
    assert set(seen.rows[0]) != set(seen.rows[1])


def test_rendered_windows_take_their_share_of_a_batch(corpus: FaceSource, windows: WindowSource) -> None:
    """The last places of a batch hold rendered windows with their own labels; the others stay faces."""
    config = replace(CONFIG, rendered="set", rendered_share=0.25, static_share=1.0)
    rows, generator = torch.arange(28), torch.Generator().manual_seed(0)
    mixed, targets = MixedSource(corpus, windows).drawer(config)(rows, generator)
    assert (mixed.shape, targets.shape) == ((28, 5, 48, 48), (28, 7))
    # Fake faces and fake windows have the stripe of their label; static faces are five times the same, windows are not.
    moving = (mixed != mixed[:, :1]).flatten(1).any(dim=1)
    assert moving.tolist() == [False] * 21 + [True] * 7
    stripes = mixed[:, -1, :42].view(28, 7, -1).mean(dim=2).argmax(dim=1)
    assert torch.equal(stripes[21:], targets[21:].argmax(dim=1))


def test_no_share_is_the_faces_alone(corpus: FaceSource, windows: WindowSource) -> None:
    """With a share of zero the mixture draws what the faces draw, judges as they do, and says both of its parts."""
    rows = torch.arange(28)
    mixed = MixedSource(corpus, windows)
    drawn = [source.drawer(CONFIG)(rows, torch.Generator().manual_seed(0)) for source in (mixed, corpus)]
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    network = Run(CONFIG).averaged
    assert mixed.judge(network, "cpu").report == corpus.judge(network, "cpu").report
    assert mixed.validate(network, "cpu").figure == corpus.validate(network, "cpu").figure
    assert {"faces": corpus.describe(), "rendered": windows.describe()}.items() <= mixed.describe().items()


def test_blended_windows_stay_near_their_own_target() -> None:
    """A blend is at least half its own window and target, by the same share in both."""
    windows = torch.arange(64.0)[:, None, None, None].expand(-1, 5, 2, 2)
    targets = torch.eye(64)
    mixed, blended = _mix(windows, targets, 1.0)
    own = blended.diagonal()
    assert (own >= 0.5).all()
    assert (own < 1).any()
    assert torch.allclose(blended.sum(dim=1), torch.ones(64))
    assert torch.allclose(mixed[:, 0, 0, 0], blended @ torch.arange(64.0), atol=1e-4)


def test_each_epoch_is_logged_once(corpus: FaceSource, tmp_path: Path) -> None:
    """The log has a header and a row an epoch, also over a stop and a resumption."""
    train(CONFIG, corpus, tmp_path, until=2)
    train(CONFIG, corpus, tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,fer_accuracy,ferplus_accuracy,ece,seconds"
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def test_another_config_does_not_resume(corpus: FaceSource, tmp_path: Path) -> None:
    """A folder that holds a run of another recipe is refused instead of mixed up."""
    train(CONFIG, corpus, tmp_path, until=1)
    with pytest.raises(ValueError, match="another config"):
        train(replace(CONFIG, seed=1), corpus, tmp_path)


def test_other_data_does_not_resume(windows: WindowSource, tmp_path: Path) -> None:
    """A folder that holds a run on other windows is refused as well."""
    train(CONFIG, windows, tmp_path / "run", until=1)
    others = WindowSource.load(write_fake_set(tmp_path / "others", subjects=11), CONFIG)
    with pytest.raises(ValueError, match="other data"):
        train(CONFIG, others, tmp_path / "run")


def test_the_same_windows_of_other_pictures_are_other_data(tmp_path: Path) -> None:
    """A set with the same clips, people and labels but other pixels is not taken for the one a run was on."""
    described = []
    for brighter in (0, 1):
        clips = [fake_clip(subject, label, "rendered") for subject in range(4) for label in range(len(LABELS))]
        clips = [replace(clip, frames=clip.frames + np.uint8(brighter)) for clip in clips]
        windowset.write(tmp_path / str(brighter), clips, LABELS, sum(len(clip.frames) for clip in clips))
        described.append(WindowSource.load(tmp_path / str(brighter), Config()).describe())
    assert described[0] != described[1]


def test_a_run_begun_anew_does_not_show_old_scores(windows: WindowSource, tmp_path: Path) -> None:
    """Where the checkpoint of an earlier run was taken away, its scores do not pass for those of the next."""
    out = tmp_path / "run"
    train(replace(CONFIG, seed=1), windows, out)
    before = (out / "scores.json").read_text()
    (out / "last.pt").unlink()
    (out / "scores.json").write_text(before.replace("chosen_epoch", "stale"))
    train(replace(CONFIG, seed=2), windows, out)
    assert "stale" not in (out / "scores.json").read_text()


def test_a_checkpoint_of_version_1_is_read(tmp_path: Path) -> None:
    """A checkpoint whose config has fewer fields, and which has no log, is taken up with the recipe's values."""
    run = Run(CONFIG)
    run.save(tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    for name in ("recipe", "schedule", "augmentation", "split", "split_seed", "patience", "precision"):
        del state["config"][name]
    del state["best_epoch"], state["log"]
    torch.save(state, tmp_path / "last.pt")
    resumed = Run.resume(tmp_path / "last.pt")
    assert resumed.config == CONFIG
    assert_equal_runs(run, resumed)


def test_it_stops_when_nothing_gets_better(corpus: FaceSource, tmp_path: Path) -> None:
    """With a patience of two, a run ends two epochs after its best, which is the one that is scored."""
    source = ScriptedSource(corpus, [1000], [0.1, 0.5, 0.4, 0.5, 0.9])
    run = train(replace(CONFIG, epochs=10, patience=2), source, tmp_path)
    assert (run.epoch, run.best_epoch, run.best) == (4, 2, 0.5)
    assert json.loads((tmp_path / "scores.json").read_text())["chosen_epoch"] == 2


def test_patience_is_kept_over_a_stop(corpus: FaceSource, tmp_path: Path) -> None:
    """A resumed run counts the epochs without a better score from where it was."""
    config, figures = replace(CONFIG, epochs=10, patience=2), [0.5, 0.4, 0.3, 0.9]
    train(config, ScriptedSource(corpus, [1000], figures), tmp_path, until=2)
    assert train(config, ScriptedSource(corpus, [1000], figures), tmp_path).epoch == 3


def test_a_run_leaves_its_folder(windows: WindowSource, tmp_path: Path) -> None:
    """Config, log, two pictures, scores and both checkpoints are there, and nothing half written."""
    out = tmp_path / "run"
    train(CONFIG, windows, out)
    names = ["best.pt", "config.json", "confusion.png", "curve.png", "last.pt", "log.csv", "scores.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / "config.json").read_text())["config"]["epochs"] == 3
    with (out / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    for name in ("curve.png", "confusion.png"):
        picture = cv2.imread(str(out / name))
        assert picture is not None
        assert picture.std() > 5
    scores = json.loads((out / "scores.json").read_text())
    assert (scores["part"], scores["data"]) == ("test", "rendered data, synthetic")
    assert scores["windows"] == sum(map(sum, scores["confusion"])) == len(windows.parts.test)
    assert set(scores["recall"]) == set(LABELS)


def test_the_scores_are_of_the_best_epoch(windows: WindowSource, tmp_path: Path) -> None:
    """What `scores.json` says is what the network of `best.pt` does on the test part."""
    train(CONFIG, windows, tmp_path / "run")
    best = Run.resume(tmp_path / "run" / "best.pt")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["chosen_epoch"] == best.epoch
    assert scores["confusion"] == windows.judge(best.averaged, "cpu").confusion.tolist()


def test_pictures_are_scored_on_public_test(corpus: FaceSource, tmp_path: Path) -> None:
    """A run on FER2013 is scored both ways on PublicTest; PrivateTest is not looked at."""
    train(CONFIG, corpus, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["part"] == "PublicTest"
    assert scores["plain"]["pictures"] == scores["deduplicated"]["pictures"] == 14


@pytest.mark.parametrize(("n", "batch", "size"), [(40, 16, 16), (9, 16, 8), (40, 15, 14), (1, 8, 1)])
def test_batches_are_even(n: int, batch: int, size: int) -> None:
    """Every batch is as large as asked for, or as there is, but for one if that is odd."""
    batches = list(_batches(n, batch, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in batches] == [size] * (n // size)


def test_precision_is_chosen(corpus: FaceSource) -> None:
    """In float32 the loss is another than in bfloat16, and close to it."""
    losses = [Run(replace(CONFIG, precision=name)).train_epoch(corpus) for name in ("bf16", "float32")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_in_bfloat16_are_right(name: str) -> None:
    """Mixed precision turns no kernel's gradient far from float32's, in any network (MobileNetV2's most: 0.51)."""
    gradients = []
    for precision in ("bf16", "float32"):
        run = Run(Config(network=name, precision=precision))
        torch.manual_seed(0)
        window, targets = torch.rand(4, 5, 48, 48), torch.eye(7)[:4]
        run.network.eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bf16"):
            logits = run.network(window)
        torch.autograd.backward(nn.functional.cross_entropy(logits.float(), targets))
        kernels = [weights for weights in run.network.parameters() if weights.ndim > 1]
        gradients.append([weights.grad for weights in kernels])
    for half, full in zip(*gradients, strict=True):
        assert half is not None
        assert full is not None
        assert nn.functional.cosine_similarity(half.flatten(), full.flatten(), dim=0) > 0.4


def test_the_command_trains_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says whose faces these are, and what the paper's split does to the scores."""
    folder = write_fake_set(tmp_path / "set")
    words = ["train", "--data", str(folder), "--out", str(tmp_path / "run"), "--recipe", "paper", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", words)
    main()
    said = capsys.readouterr().out
    assert "rendered data, synthetic" in said
    assert "Split by window" in said
    assert (tmp_path / "run" / "scores.json").exists()


def test_the_command_trains_on_pictures(fer2013_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FER2013's file is told from a folder of windows."""
    words = ["train", "--data", str(fer2013_file), "--out", str(tmp_path / "run"), "--epochs", "1"]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert (tmp_path / "run" / "scores.json").exists()


def test_labels_in_another_order_are_refused(tmp_path: Path) -> None:
    """A set whose labels are not the project's would be learnt wrong."""
    folder = write_fake_set(tmp_path)
    names = json.loads((folder / "names.json").read_text())
    (folder / "names.json").write_text(json.dumps(names | {"labels": names["labels"][::-1]}))
    with pytest.raises(ValueError, match="the labels are"):
        WindowSource.load(folder, CONFIG)


def test_without_votes_the_labels_are_learnt(fer2013_file: Path) -> None:
    """FER2013 without FER+ votes is learnt and chosen by its own labels, but for the copy of a Training picture."""
    with np.load(fer2013_file) as stored:
        changed = dict(stored) | {"ferplus_votes": np.zeros((12, 10), np.uint8)}
    np.savez(fer2013_file, **changed)
    source = FaceSource.load(fer2013_file)
    assert len(source) == 4
    assert source.validate(Run(CONFIG).averaged, "cpu").confusion.sum(axis=1).tolist() == [1, 0, 0, 0, 0, 1, 1]
