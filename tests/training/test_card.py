"""The model cards."""

from pathlib import Path

import pytest

from training import manifest
from training.card import card

pytestmark = pytest.mark.training

STORE = Path(__file__).parents[2] / "model_store"
NETWORKS = [
    file.parent for file in STORE.glob(f"*/*/{manifest.NAME}") if manifest.read(file.parent)["kind"] == "network"
]


@pytest.mark.parametrize("folder", NETWORKS, ids=lambda folder: folder.parent.name)
def test_each_shipped_card_says_what_its_manifest_says(folder: Path) -> None:
    """A card's figures are the manifest's: it is what the card's command would write now."""
    assert (folder / "README.md").read_text(encoding="utf-8") == card(manifest.read(folder))
