"""README.md says what is so."""

import re
from pathlib import Path

from training.document import between_marks
from training.report import newest, summary

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_table_of_networks_is_that_of_the_manifests() -> None:
    """The README's scores are those `make models` prints from the model store."""
    assert between_marks(README, "models", summary(newest(ROOT / "model_store"))) == README


def test_the_two_commands_are_targets() -> None:
    """`make serve` and `make test` exist, and the README names them."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"serve", "test"} <= set(targets)
    assert {"make serve", "make test"} <= set(re.findall(r"make [a-z]+", README))


def test_links_lead_somewhere() -> None:
    """Every file that the README and the docs link to or show exists."""
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
