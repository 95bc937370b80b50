"""Print the README's table of networks in Markdown, from the manifests: `python -m training.report` (no torch)."""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training import manifest

SPLITS = {"public": "PublicTest", "private": "PrivateTest"}
WAYS = {"plain": "plain", "deduplicated": "de-duplicated"}
COLUMNS = ("network", "weights", "split", "counted", "FER2013 accuracy", "FER+ accuracy", "ECE")


def newest(store: Path) -> list[manifest.Manifest]:
    """Read the manifest of each network's newest version, by name."""
    found = [manifest.read(file.parent) for file in store.glob(f"*/*/{manifest.NAME}")]
    networks = sorted((each for each in found if each["kind"] == "network"), key=lambda each: int(each["version"]))
    by_name = {each["name"]: each for each in networks}
    return [by_name[name] for name in sorted(by_name)]


def report(networks: list[manifest.Manifest]) -> str:
    """Lay out a row for each network, split and way of counting; `-` stands for what was not measured."""
    labels = tuple(networks[0]["labels"]) if networks else ()
    header = (*COLUMNS, *labels)
    lines = [header, tuple("---" for _ in header), *(row for network in networks for row in _rows(network, labels))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows(network: manifest.Manifest, labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for split, split_title in SPLITS.items():
        for way, way_title in WAYS.items():
            scores: dict[str, Any] = network["scores"].get(split, {}).get(way, {})
            shares = [scores.get("fer_accuracy"), scores.get("ferplus_accuracy"), scores.get("ece")]
            recall = [scores.get("recall", {}).get(label) for label in labels]
            name, total = network["name"], network["parameters"]["total"]
            yield f"`{name}`", f"{total:,}", split_title, way_title, *(_share(value) for value in shares + recall)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def between_marks(document: str, table: str) -> str:
    """The document with the table in its place.

    Raises:
        ValueError: the document has no marks.
    """
    before, begin, rest = document.partition("<!-- models -->\n")
    _, end, after = rest.partition("<!-- /models -->")
    if not (begin and end):
        raise ValueError("the document has no <!-- models --> and <!-- /models -->")
    return f"{before}{begin}{table}\n{end}{after}"


def main() -> None:
    """Read the command line and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--into", type=Path, help="write it between the models marks of this file, too")
    arguments = parser.parse_args()
    table = report(newest(arguments.store))
    if arguments.into is not None:
        arguments.into.write_text(between_marks(arguments.into.read_text(), table))
    print(table)


if __name__ == "__main__":
    main()
