"""The model store: a folder of ``<model>/<version>/`` with ``model.onnx``, ``manifest.json`` and a model card.

Nothing is served whose bytes are not what its manifest says (sha256).
"""

import hashlib
import logging
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from service.errors import ModelDamaged, UnknownModel

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"

Stamp = tuple[tuple[str, int, int], ...]
"""Path, size in bytes and time of change (ns) of files."""


class Tensor(Struct, frozen=True):
    """A named input or output; a dimension that is a string is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Crop(Struct, frozen=True):
    """Crop geometry for one detector, see `service.vision.crop.CropGeometry`."""

    scale: float
    dx: float
    dy: float


class ModelFile(Struct, frozen=True):
    """Another form of a model."""

    file: str
    sha256: str


class NetworkManifest(Struct, frozen=True, kw_only=True, tag_field="kind", tag="network"):
    """An emotion network.

    ``uncertain_below``: a winner of less probability is called uncertain. ``learnt_from``: the training data; a network
    that has seen no person is not ``for_people``, and nothing it says is certain. ``int8``: the same network quantised.
    """

    name: str
    version: str
    file: str
    sha256: str
    input: Tensor
    output: Tensor
    labels: tuple[str, ...]
    window: int
    uncertain_below: float
    crop: dict[str, Crop]
    learnt_from: str
    for_people: bool
    int8: ModelFile | None = None
    parameters: dict[str, int] = {}
    scores: dict[str, Any] = {}


class DetectorManifest(Struct, frozen=True, kw_only=True, tag_field="kind", tag="detector"):
    """A face detector's network."""

    name: str
    version: str
    file: str
    sha256: str
    input: Tensor
    outputs: tuple[Tensor, ...]
    source: str
    license: str


Manifest = NetworkManifest | DetectorManifest

_decoder = msgspec.json.Decoder(Manifest)


class Artifact(Struct, frozen=True):
    """A model on disk: its manifest and the folder it lies in."""

    manifest: Manifest
    folder: Path

    @property
    def spec(self) -> str:
        """``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def int8(self) -> "Artifact | None":
        """The same network with numbers of 8 bits, if there is one."""
        manifest = self.manifest
        if not isinstance(manifest, NetworkManifest) or manifest.int8 is None:
            return None
        return Artifact(replace(manifest, file=manifest.int8.file, sha256=manifest.int8.sha256), self.folder)

    def read(self) -> bytes:
        """The model file, checked.

        Raises:
            ModelDamaged: it is missing, or its sha256 is not the manifest's.
        """
        path = self.folder / self.manifest.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelDamaged(f"{self.spec}: {path.name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.manifest.sha256:
            raise ModelDamaged(f"{self.spec}: the sha256 of {path.name} is not the manifest's")
        return content


class ModelStore:
    """Models of a folder; manifests are read anew at each call, model files only by `Artifact.read`."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds ``<model>/<version>/manifest.json``."""
        self._folder = folder

    def artifacts(self, kind: Literal["network", "detector"]) -> list[Artifact]:
        """All models of a kind, by name and version. A damaged one hides no other: it is logged and left out.

        Raises:
            ModelDamaged: there is no such folder.
        """
        found = []
        for path in self._manifests():
            try:
                found.append(_artifact(path))
            except ModelDamaged as error:
                log.warning("Left out of the model store: %s", error)
        wanted = NetworkManifest if kind == "network" else DetectorManifest
        return sorted((artifact for artifact in found if isinstance(artifact.manifest, wanted)), key=_order)

    def find(self, spec: str, kind: Literal["network", "detector"]) -> Artifact:
        """The model ``name@version``, or the newest version of ``name``.

        Raises:
            UnknownModel: there is none; the message lists those there are.
            ModelDamaged: its manifest cannot be read, or there is no such folder.
        """
        name, _, version = spec.partition("@")
        wanted = NetworkManifest if kind == "network" else DetectorManifest
        matches = [
            path for path in self._manifests() if path.parent.parent.name == name and version in ("", path.parent.name)
        ]
        for path in sorted(matches, key=lambda path: _age(path.parent.name), reverse=True):
            artifact = _artifact(path)
            if isinstance(artifact.manifest, wanted):
                return artifact
        known = ", ".join(artifact.spec for artifact in self.artifacts(kind)) or "none"
        raise UnknownModel(f"No {kind} {spec!r}; there are: {known}")

    def stamp(self, name: str) -> Stamp:
        """What the files of all versions of ``name`` look like from outside: the same as long as none is changed."""
        try:
            files = [(path, path.stat()) for path in sorted(self._folder.glob(f"{name}/*/*"))]
        except OSError:  # One that went away while we looked.
            return ()
        return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files)

    def _manifests(self) -> list[Path]:
        if not self._folder.is_dir():
            raise ModelDamaged(f"There is no model store at {self._folder}")
        return sorted(self._folder.glob(f"*/*/{MANIFEST}"))


def _artifact(path: Path) -> Artifact:
    where = "/".join(path.parts[-3:])
    try:
        artifact = Artifact(_decoder.decode(path.read_bytes()), path.parent)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ModelDamaged(f"{where}: {error}") from error
    if (artifact.manifest.name, artifact.manifest.version) != path.parts[-3:-1]:
        raise ModelDamaged(f"{where} says it is {artifact.spec}")
    return artifact


def _order(artifact: Artifact) -> tuple[str, tuple[int, str]]:
    return artifact.manifest.name, _age(artifact.manifest.version)


def _age(version: str) -> tuple[int, str]:
    """Sort key, newest last: whole numbers, as Triton's versions are; anything else comes before them."""
    return (int(version), "") if version.isdecimal() else (-1, version)
