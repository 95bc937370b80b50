"""Write the model card from the manifest: `python -m training.card model_store/NAME/VERSION`.

The prose, `card.md`, holds for every network trained on FER2013 stills; figures come from the manifest alone.
"""

from argparse import ArgumentParser
from pathlib import Path

from training import manifest
from training.report import report

PROSE = Path(__file__).with_name("card.md")


def card(described: manifest.Manifest) -> str:
    """Fill the prose with a manifest's figures."""
    certain = described["scores"]["certain"]
    return PROSE.read_text(encoding="utf-8").format(
        **(described | {"labels": ", ".join(described["labels"]), "scores": report([described])}),
        input_shape=_shape(described["input"]["shape"]),
        output_shape=_shape(described["output"]["shape"]),
        accuracy=certain["ferplus_accuracy"],
        coverage=certain["coverage"],
    )


def _shape(dimensions: list[int | str]) -> str:
    return f"[{', '.join(str(dimension) for dimension in dimensions)}]"


def main() -> None:
    """Read the command line and write `README.md`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="version folder, e.g. model_store/timeconv-mini-xception/1")
    folder: Path = parser.parse_args().model
    (folder / "README.md").write_text(card(manifest.read(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
