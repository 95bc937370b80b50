"""The tables of README.md and docs/models.md, from manifests and result files made by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training import document, manifest, report
from training.datasets.titles import FER2013, RENDERED
from training.document import between_marks

pytestmark = pytest.mark.training

REPOSITORY = Path(__file__).parents[2]
MADE_BY: dict[str, str | None] = {
    "command": "python -m x",
    "commit": "c" * 40,
    "date": "2026-11-23",
    "processor": "Xeon",
}
MADE = "`python -m x`, commit cccccccccc, 2026-11-23, Xeon."
FACES_SCORES: dict[str, Any] = {
    "fer_accuracy": 0.61,
    "ferplus_accuracy": 0.7936,
    "mean_recall": 0.6543,
    "ece": 0.0123,
    "recall": {"angry": 0.5, "disgust": 0.25, "fear": 0.125},
}
WINDOWS_SCORES: dict[str, Any] = {
    "windows": 5040,
    "accuracy": 0.7654,
    "mean_recall": 0.6,
    "ece": 0.04,
    "recall": {"angry": 0.5, "disgust": None, "fear": 0.125},
    "certain": {"coverage": 0.55, "accuracy": 0.91},
}
MARKED = "# Models\n\n<!-- faces -->\nold\ntable\n<!-- /faces -->\n\nbetween\n\n<!-- rendered -->\n<!-- /rendered -->\n"


def network(name: str, source: str, **scores: Any) -> manifest.Manifest:
    """Make a network's manifest."""
    return {
        "name": name,
        "version": "1",
        "kind": "network",
        "labels": ["angry", "disgust", "fear"],
        "parameters": {"total": 58711},
        "latency": {"mean_ms": 0.4567},
        "learnt_from": source,
        "scores": scores,
    }


@pytest.fixture
def on_faces() -> manifest.Manifest:
    """Give a network learnt from FER2013 that was scored on PrivateTest."""
    worse = FACES_SCORES | {"ferplus_accuracy": 0.5}
    split = {"plain": worse, "deduplicated": FACES_SCORES, "certain": {"coverage": 0.77, "accuracy": 0.9}}
    return network("net", FER2013, private=split)


@pytest.fixture
def on_windows() -> manifest.Manifest:
    """Give a network learnt from rendered windows that was scored on their test part."""
    return network("drawn", RENDERED, test=WINDOWS_SCORES)


@pytest.fixture
def measured() -> dict[str, Any]:
    """Give the accuracies of two models: one of them loses much where two kinds of frames are bad."""
    results = [
        ("clean", "nothing", 0.8, 0.7),
        ("1 of 5 spoiled, not the last", "hand", 0.6, 0.5),
        ("1 of 5 spoiled, not the last", "jpeg", 0.7, 0.4),
        ("2 of 5 spoiled, not the last", "hand", 0.5, 0.25),
        ("small face", "40 px", 0.75, 0.65),
        ("small face", "32 px", 0.7, 0.6),
    ]
    return {
        "made_by": MADE_BY,
        "windows": 3153,
        "models": ["b@1", "a@2"],
        "results": [
            {"group": group, "title": title, "accuracy": {"a@2": other, "b@1": one}}
            for group, title, one, other in results
        ],
    }


@pytest.fixture
def run() -> dict[str, Any]:
    """Give a run's entry in the log of variants."""
    return {
        "name": "mixed",
        "network": "timeconv-resnet20",
        "options": ["--mixup=0.3", "--seed=1"],
        "epochs": "17 of 64",
        "best_epoch": 16,
        "ferplus_accuracy": 0.7417,
        "hours": 1.25,
        "threads": 2,
        "commit": "d" * 40,
        "note": "does mixup help?",
    }


@pytest.fixture
def baseline() -> dict[str, Any]:
    """Give the scores of somebody's network on both splits."""
    ways = {"plain": FACES_SCORES | {"ece": 0.9}, "deduplicated": FACES_SCORES}
    return {"name": "theirs", "made_by": MADE_BY, "scores": {"public": ways, "private": ways}}


def cells(text: str) -> list[list[str]]:
    """Take a Markdown table apart, without the line under its header."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [lines[0], *lines[2:]]


def test_what_stood_between_the_marks_is_replaced() -> None:
    """Marks and all else stay, byte for byte, also where nothing stood between them."""
    assert between_marks(MARKED, "faces", "new") == MARKED.replace("old\ntable\n", "new\n")
    assert between_marks(MARKED, "rendered", "new\nlines") == MARKED.replace(
        "<!-- rendered -->\n", "<!-- rendered -->\nnew\nlines\n"
    )


def test_writing_the_same_again_changes_nothing() -> None:
    """A document whose tables are up to date stays as it is."""
    once = between_marks(MARKED, "faces", "| a |\n| --- |")
    assert between_marks(once, "faces", "| a |\n| --- |") == once


@pytest.mark.parametrize(
    "text", ["", "<!-- faces -->\n", "<!-- /faces -->", "<!-- /faces -->\n<!-- faces -->\n", MARKED]
)
def test_missing_marks_are_an_error(text: str) -> None:
    """A document without both marks, in their order and of that name, is not written into; the error names them."""
    name = "variants" if text == MARKED else "faces"
    with pytest.raises(ValueError, match=f"no <!-- {name} --> and <!-- /{name} -->"):
        between_marks(text, name, "new")


def test_robustness_has_a_row_a_condition_and_a_column_a_model(measured: dict[str, Any]) -> None:
    """Models stand in the file's order, whatever that of the accuracies; below is how they were made."""
    text = document.robustness(measured)
    header, *rows = cells(text)
    assert header == ["what is bad", "how", "`b@1`", "`a@2`"]
    assert rows[0] == ["clean", "nothing", "0.800", "0.700"]
    assert rows[1] == ["1 of 5 spoiled, not the last", "hand", "0.600", "0.500"]
    assert rows[-1] == ["small face", "32 px", "0.700", "0.600"]
    assert text.endswith(f"|\n\n3,153 windows. {MADE}")


def test_spoiled_frames_have_a_mean_over_their_kinds(measured: dict[str, Any]) -> None:
    """After each group of spoiled frames, and after no other, each model's mean stands in bold."""
    rows = cells(document.robustness(measured))[1:]
    assert [row[1] for row in rows] == [
        "nothing", "hand", "jpeg", "**mean**", "hand", "**mean**", "40 px", "32 px"
    ]  # fmt: skip
    assert rows[3] == ["1 of 5 spoiled, not the last", "**mean**", "**0.650**", "**0.450**"]
    assert rows[5] == ["2 of 5 spoiled, not the last", "**mean**", "**0.500**", "**0.250**"]


def test_variants_have_a_row_a_run(run: dict[str, Any]) -> None:
    """Options are code, hours are those of all cores, the commit is short."""
    header, row = cells(document.variants([run]))
    assert row == [
        "mixed",
        "`timeconv-resnet20`",
        "`--mixup=0.3` `--seed=1`",
        "17 of 64",
        "16",
        "0.742",
        "2.5",
        "dddddddddd",
        "does mixup help?",
    ]
    assert len(header) == len(row)


def test_a_variant_on_windows_has_its_own_accuracy(run: dict[str, Any]) -> None:
    """Where there is no FER+ accuracy the plain one stands; no options are a dash; an unknown commit is said to be."""
    del run["ferplus_accuracy"]
    row = cells(document.variants([run | {"accuracy": 0.5, "options": [], "commit": None}]))[1]
    assert (row[5], row[2], row[7]) == ("0.500", "-", "unknown")


def test_variants_keep_their_order(run: dict[str, Any]) -> None:
    """Rows come as runs were noted."""
    log = [run | {"name": name} for name in ("b", "c", "a")]
    assert [row[0] for row in cells(document.variants(log))[1:]] == ["b", "c", "a"]


def test_baselines_are_counted_without_copies(baseline: dict[str, Any]) -> None:
    """Each split has a row of its de-duplicated scores, with the recall of the rare classes."""
    text = document.baselines(baseline)
    header, public, private = cells(text)
    assert header[-3:] == ["ECE", "disgust", "fear"]
    assert public == ["theirs", "PublicTest", "0.610", "0.794", "0.654", "0.012", "0.250", "0.125"]
    assert private == ["theirs", "PrivateTest", *public[2:]]
    assert text.endswith(f"|\n\n{MADE}")


def test_figures_of_unknown_commit_say_so() -> None:
    """An unpacked archive has no history to name."""
    assert document.made_by(MADE_BY) == MADE
    assert document.made_by(MADE_BY | {"commit": None}) == MADE.replace("cccccccccc", "unknown")


def test_the_summary_is_on_private_test_without_copies(on_faces: manifest.Manifest) -> None:
    """A row has weights, time, the scores a user chooses by, and how often a sure answer is right."""
    header, row = cells(report.summary([on_faces]))
    shares = ["0.794", "0.654", "0.250", "0.125", "0.012", "0.770", "0.900"]
    assert row == ["`net`", "58,711", "0.46", *shares]
    assert header[3:] == ["FER+ accuracy", "mean recall", "disgust", "fear", "ECE", "sure", "right when sure"]


def test_the_summary_has_dashes_where_nothing_was_measured() -> None:
    """A network that has not been shown PrivateTest has its weights and its time."""
    only_public = network("net", FER2013, public={"deduplicated": FACES_SCORES})
    assert cells(report.summary([only_public]))[1] == ["`net`", "58,711", "0.46", *"-------"]


def test_each_kind_of_network_has_its_own_tables(on_faces: manifest.Manifest, on_windows: manifest.Manifest) -> None:
    """Who learnt from rendered faces is in neither table of real ones, and the other way round."""
    both = [on_windows, on_faces]
    assert [row[0] for row in cells(report.summary(both))[1:]] == ["`net`"]
    assert {row[0] for row in cells(report.faces_table(both))[1:]} == {"`net`"}
    assert [row[0] for row in cells(report.windows_table(both))[1:]] == ["`drawn`"]


def test_a_network_on_windows_has_a_row(on_windows: manifest.Manifest) -> None:
    """It has the test part's size, scores, sure answers and recall a class; a class without windows has a dash."""
    header, row = cells(report.windows_table([on_windows]))
    figures = ["5,040", "0.765", "0.600", "0.040", "0.550", "0.910", "0.500", "-", "0.125"]
    assert row == ["`drawn`", "58,711", *figures]
    assert header[2:] == [
        "windows", "top-1", "mean recall", "ECE", "sure", "right when sure", "angry", "disgust", "fear"
    ]  # fmt: skip


def test_a_network_on_windows_that_was_not_scored_has_dashes() -> None:
    """Scores of the validation part are not taken for those of the test part."""
    row = cells(report.windows_table([network("drawn", RENDERED, validation=WINDOWS_SCORES)]))[1]
    assert row[3:] == list("--------")


def test_tables_of_no_network_are_empty() -> None:
    """A store without networks of a kind gives a header alone."""
    for layout in (report.summary, report.windows_table, report.faces_table):
        assert len(layout([]).splitlines()) == 2


def test_both_documents_are_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_faces: manifest.Manifest,
    on_windows: manifest.Manifest,
    measured: dict[str, Any],
    run: dict[str, Any],
    baseline: dict[str, Any],
) -> None:
    """Each table stands in its place, prose stays, and a second call changes nothing."""
    for described in (on_faces, on_windows):
        folder = tmp_path / "store" / described["name"] / "1"
        folder.mkdir(parents=True)
        manifest.write(folder, described)
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    for name, value in (("robustness", measured), ("variants", [run]), ("baselines", baseline)):
        (results / f"{name}.json").write_text(json.dumps(value))
    (results / "table2.md").write_text("# Table II\n\n| a |\n")
    tables = {
        "faces": report.faces_table([on_faces]),
        "rendered": report.windows_table([on_windows]),
        "baselines": document.baselines(baseline),
        "robustness": document.robustness(measured),
        "variants": document.variants([run]),
        "table2": "# Table II\n\n| a |",
    }
    empty = "".join(f"Prose.\n<!-- {name} -->\n<!-- /{name} -->\n" for name in tables)
    (tmp_path / "docs" / "models.md").write_text(empty)
    (tmp_path / "README.md").write_text("Größe\n<!-- models -->\nold\n<!-- /models -->\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["document", "--store", "store"])
    for _ in range(2):
        document.main()
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == (
            f"Größe\n<!-- models -->\n{report.summary([on_faces])}\n<!-- /models -->\n"
        )
        full = "".join(f"Prose.\n<!-- {name} -->\n{text}\n<!-- /{name} -->\n" for name, text in tables.items())
        assert (tmp_path / "docs" / "models.md").read_text(encoding="utf-8") == full


def test_describing_and_scoring_need_no_torch() -> None:
    """A fresh interpreter that imports what lays out, scores and times models has not loaded torch."""
    modules = ("document", "report", "evaluate", "card", "latency", "provenance", "spoil")
    names = ", ".join(f"training.{name}" for name in modules)
    program = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)  # noqa: S603 - our own
    assert done.returncode == 0
