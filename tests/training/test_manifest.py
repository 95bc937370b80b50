"""Writing manifests."""

from hashlib import sha256
from pathlib import Path

import pytest

from training import manifest

pytestmark = pytest.mark.training


def test_a_manifest_comes_back_as_written(tmp_path: Path) -> None:
    """What is written is read, and the file ends with a line break."""
    manifest.write(tmp_path, {"name": "a", "crop": {}})
    assert manifest.read(tmp_path) == {"name": "a", "crop": {}}
    assert (tmp_path / manifest.NAME).read_text().endswith("}\n")


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    """A file's digest is the SHA-256 of its bytes."""
    (tmp_path / "model.onnx").write_bytes(b"weights")
    assert manifest.digest(tmp_path / "model.onnx") == sha256(b"weights").hexdigest()
