"""Write and read the `manifest.json` that goes with every model of the store."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]

NAME = "manifest.json"


def read(folder: Path) -> Manifest:
    """Read the manifest of a model's version folder."""
    manifest: Manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
    return manifest


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest."""
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return sha256(file.read_bytes()).hexdigest()
