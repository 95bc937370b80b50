"""Write and read the `manifest.json` that goes with every model of the store."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]

NAME = "manifest.json"
# Measured on their own, by tools that write them into the manifest: a new export must not lose them.
KEPT = ("crop",)


def read(folder: Path) -> Manifest:
    """Read the manifest of a model's version folder."""
    manifest: Manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
    return manifest


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; where it is empty under a key of `KEPT`, keep what an earlier one says there."""
    earlier = read(folder) if (folder / NAME).exists() else {}
    merged = manifest | {key: earlier[key] for key in KEPT if key in earlier and not manifest.get(key)}
    (folder / NAME).write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return sha256(file.read_bytes()).hexdigest()
