"""Note a run in the log of variants: `python -m training.variants runs/NAME --note "what it was to show"`.

The log, `docs/results/variants.json`, has an entry a run, by its place in `runs`: what differed from the default
recipe, what came of it, what it cost. `training.document` lays it out. A run that was noted before is noted anew.
"""

import csv
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from training import cli, run_folder
from training.config import Config

LOG = Path("docs/results/variants.json")


def entry(folder: Path, note: str) -> dict[str, Any]:
    """Sum a run up from its folder, finished or not; its score is that of the best epoch so far.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    described = run_folder.read_json(folder / run_folder.CONFIG)
    config = Config.stored(described["config"])
    with (folder / run_folder.LOG).open() as opened:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(opened)]
    figure = "ferplus_accuracy" if "ferplus_accuracy" in rows[0] else "accuracy"
    best = max(rows, key=lambda row: row[figure])
    return {
        "name": name(folder),
        "network": config.network,
        "options": [option for option in config.changed_options() if not option.startswith("--network")],
        "epochs": f"{len(rows)} of {config.epochs}",
        "best_epoch": int(best["epoch"]),
        figure: best[figure],
        "hours": round(sum(row["seconds"] for row in rows) / 3600, 2),
        "threads": described["machine"]["threads"],
        "commit": described.get("commit"),
        "note": note,
    }


def name(folder: Path) -> str:
    """A run's place in the nearest `runs` above it, e.g. `table2/resnet20-3d/seed-0`; else the folder's own name."""
    parts = folder.resolve().parts
    if "runs" not in parts[:-1]:
        return parts[-1]
    return "/".join(parts[len(parts) - parts[::-1].index("runs") :])


def noted(log: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The log with one entry new, or in the place of the one of that name."""
    if any(each["name"] == new["name"] for each in log):
        return [new if each["name"] == new["name"] else each for each in log]
    return [*log, new]


def main() -> None:
    """Read the command line and write the log."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--note", required=True, help="what it was to show, and what it showed")
    parser.add_argument("--log", type=Path, default=LOG)
    options = parser.parse_args()
    log = json.loads(options.log.read_text()) if options.log.exists() else []
    new = entry(options.run, options.note)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(options.log, noted(log, new))
    print(json.dumps(new, indent=2))


if __name__ == "__main__":
    cli.run(main)
