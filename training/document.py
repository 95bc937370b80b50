"""Write the tables of README.md and docs/models.md: `python -m training.document` (no torch).

They come from the manifests of the model store and from `docs/results/`, where the tools that measure leave their
figures with command, commit, date and processor. Each table stands between marks, `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import json
from argparse import ArgumentParser
from itertools import groupby
from pathlib import Path
from typing import Any

from training import cli, report
from training.provenance import short
from training.report import table

README, MODELS, RESULTS = Path("README.md"), Path("docs/models.md"), Path("docs/results")
MEASURED = ("baselines", "robustness", "variants")
SPOILED = "of 5 spoiled"


def between_marks(document: str, name: str, text: str) -> str:
    """The document with the text between the marks of that name.

    Raises:
        ValueError: the document has no such marks.
    """
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, begin, rest = document.partition(opening)
    _, end, after = rest.partition(closing)
    if not (begin and end):
        raise ValueError(f"the document has no {opening.strip()} and {closing}")
    return f"{before}{begin}{text}\n{end}{after}"


def robustness(measured: dict[str, Any]) -> str:
    """Lay out accuracies: a row a condition, a column a model, and a mean over the kinds of spoiled frames."""
    models = measured["models"]
    lines = [("what is bad", "how", *(f"`{model}`" for model in models))]
    for group, results in groupby(measured["results"], key=lambda result: result["group"]):
        rows = list(results)
        lines += [(group, row["title"], *(f"{row['accuracy'][model]:.3f}" for model in models)) for row in rows]
        if SPOILED in group:
            means = [sum(row["accuracy"][model] for row in rows) / len(rows) for model in models]
            lines.append((group, "**mean**", *(f"**{mean:.3f}**" for mean in means)))
    return "\n\n".join([table(lines), f"{measured['windows']:,} windows. {made_by(measured['made_by'])}"])


def variants(log: list[dict[str, Any]]) -> str:
    """Lay out the log of variants: a row a run."""
    lines = [
        ("run", "network", "differs from `default` by", "epochs", "best", "accuracy", "core-hours", "commit", "note")
    ]
    for each in log:
        figure = each.get("ferplus_accuracy", each.get("accuracy"))
        lines.append(
            (
                each["name"],
                f"`{each['network']}`",
                " ".join(f"`{option}`" for option in each["options"]) or "-",
                each["epochs"],
                str(each["best_epoch"]),
                f"{figure:.3f}",
                f"{each['hours'] * each['threads']:.1f}",
                short(each["commit"]),
                each["note"].replace("|", "\\|"),
            )
        )
    return table(lines)


def baselines(measured: dict[str, Any]) -> str:
    """Lay out the scores of other people's networks, as ours are."""
    lines = [("network", "split", "FER2013 accuracy", "FER+ accuracy", "mean recall", "ECE", *report.RARE)]
    for split, ways in measured["scores"].items():
        scores = ways["deduplicated"]
        shares = [scores[name] for name in ("fer_accuracy", "ferplus_accuracy", "mean_recall", "ece")]
        shares += [scores["recall"][label] for label in report.RARE]
        lines.append((measured["name"], report.SPLITS[split], *(f"{share:.3f}" for share in shares)))
    return "\n\n".join([table(lines), made_by(measured["made_by"])])


def made_by(how: dict[str, str | None]) -> str:
    """Say where figures come from."""
    return f"`{how['command']}`, commit {short(how['commit'])}, {how['date']}, {how['processor']}."


def main() -> None:
    """Read the command line and write both documents."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    networks = report.newest(parser.parse_args().store)
    measured = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in MEASURED}
    texts = {
        "faces": report.faces_table(networks),
        "rendered": report.windows_table(networks),
        "baselines": baselines(measured["baselines"]),
        "robustness": robustness(measured["robustness"]),
        "variants": variants(measured["variants"]),
        "table2": (RESULTS / "table2.md").read_text().strip(),
    }
    # All that can fail comes before the first word is written.
    written = {README: _filled(README, {"models": report.summary(networks)}), MODELS: _filled(MODELS, texts)}
    for path, document in written.items():
        path.write_text(document, encoding="utf-8")


def _filled(path: Path, texts: dict[str, str]) -> str:
    document = path.read_text(encoding="utf-8")
    for name, text in texts.items():
        document = between_marks(document, name, text)
    return document


if __name__ == "__main__":
    cli.run(main)
