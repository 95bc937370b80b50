import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelDamaged, UnknownModel
from service.inference.artifact import DetectorManifest, ModelStore, NetworkManifest, Tensor
from service.settings import shipped_model_store

CONTENT = b"the model"
NETWORK = {
    "kind": "network",
    "name": "net",
    "version": "1",
    "file": "model.onnx",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "input": {"name": "window", "dtype": "uint8", "shape": ["n", 5, 48, 48]},
    "output": {"name": "probabilities", "dtype": "float32", "shape": ["n", 7]},
    "labels": ["sad", "happy"],
    "window": 5,
    "uncertain_below": 0.5,
    "learnt_from": "faces",
    "for_people": True,
    "crop": {"blazeface": {"scale": 1.2, "dx": 0.0, "dy": 0.1}},
}
DETECTOR = {
    "kind": "detector",
    "name": "net",
    "version": "1",
    "file": "model.onnx",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "input": {"name": "image", "dtype": "uint8", "shape": ["n", 1, 128, 128]},
    "outputs": [{"name": "boxes", "dtype": "float32", "shape": ["n", 4]}],
    "source": "here",
    "license": "Apache-2.0",
}


def put(store: Path, name: str, version: str, manifest: dict[str, Any] | bytes = NETWORK, **changes: object) -> Path:
    """Put a model into a store; its folder."""
    folder = store / name / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(CONTENT)
    if isinstance(manifest, dict):
        manifest = json.dumps({**manifest, "name": name, "version": version, **changes}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a network in three versions, another network, and a detector."""
    folder = tmp_path / "store"
    for version in ("2", "10", "9"):
        put(folder, "net", version)
    put(folder, "other", "1")
    put(folder, "faces", "1", DETECTOR)
    return folder


class TestFind:
    def test_name_and_version(self, store: Path) -> None:
        """A name with a version is exactly that model, in the folder it lies in."""
        artifact = ModelStore(store).find("net@9", "network")
        assert (artifact.spec, artifact.folder) == ("net@9", store / "net" / "9")
        assert isinstance(artifact.manifest, NetworkManifest)
        assert artifact.manifest.input == Tensor("window", "uint8", ("n", 5, 48, 48))
        assert (artifact.manifest.crop["blazeface"].scale, artifact.manifest.crop["blazeface"].dy) == (1.2, 0.1)

    def test_newest(self, store: Path) -> None:
        """A name alone is the newest version, by number, not by spelling."""
        assert ModelStore(store).find("net", "network").spec == "net@10"

    def test_version_that_is_no_number(self, store: Path) -> None:
        """A version that is no number is older than any that is, and is found by its name."""
        put(store, "net", "draft")
        assert ModelStore(store).find("net", "network").spec == "net@10"
        assert ModelStore(store).find("net@draft", "network").spec == "net@draft"
        put(store, "early", "beta")
        put(store, "early", "alpha")
        assert ModelStore(store).find("early", "network").spec == "early@beta"

    def test_new_model(self, store: Path) -> None:
        """A version put into the store while it is in use is found."""
        models = ModelStore(store)
        assert models.find("net", "network").spec == "net@10"
        put(store, "net", "11")
        assert models.find("net", "network").spec == "net@11"

    @pytest.mark.parametrize(
        "spec", ["", "@", "@1", "nothing", "net@3", "net@010", "NET", "net@10@", "net 10", "faces"]
    )
    def test_unknown(self, store: Path, spec: str) -> None:
        """What is not there is refused with a list of what is."""
        with pytest.raises(UnknownModel, match=r"there are: net@2, net@9, net@10, other@1$"):
            ModelStore(store).find(spec, "network")

    @pytest.mark.parametrize(
        "spec",
        [
            "../secret@1",
            "..",
            "../store/net",
            "net/10",
            "net@../../secret/1",
            "./net",
            "net@10/",
            "net@10/.",
            "*",
            "n?t",
            "net@*",
            "[n]et@10",
            "{secret}/secret",
            "net\0",
            "net\\10",
        ],
    )
    def test_no_way_out(self, store: Path, spec: str) -> None:
        """A spec is a name, not a path or a pattern: it finds nothing outside of the store or by another way."""
        secret = put(store.parent, "secret", "1")
        with pytest.raises(UnknownModel):
            ModelStore(store).find(spec.replace("{secret}", str(secret.parent.parent)), "network")

    def test_kind(self, store: Path) -> None:
        """A network is not found as a detector, nor the other way round."""
        assert isinstance(ModelStore(store).find("faces", "detector").manifest, DetectorManifest)
        with pytest.raises(UnknownModel, match="No detector 'net'; there are: faces@1"):
            ModelStore(store).find("net", "detector")

    def test_empty_store(self, tmp_path: Path) -> None:
        """A store without models says that it has none."""
        with pytest.raises(UnknownModel, match=r"there are: none$"):
            ModelStore(tmp_path).find("net", "network")

    def test_no_store(self, tmp_path: Path) -> None:
        """A store that is not there is named."""
        with pytest.raises(ModelDamaged, match=r"no model store at .*/nowhere$"):
            ModelStore(tmp_path / "nowhere").find("net", "network")
        with pytest.raises(ModelDamaged):
            ModelStore(tmp_path / "nowhere").artifacts("network")


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "cut off": json.dumps(NETWORK).encode()[:100],
    "text": b"hello",
    "not UTF-8": b'{"kind":"network","name":"\xff"}',
    "list": b"[]",
    "other kind": json.dumps({**NETWORK, "kind": "other"}).encode(),
    "no kind": json.dumps({name: value for name, value in NETWORK.items() if name != "kind"}).encode(),
    "no sha256": json.dumps({name: value for name, value in NETWORK.items() if name != "sha256"}).encode(),
    "wrong type": json.dumps({**NETWORK, "window": "five"}).encode(),
    "other name": json.dumps({**NETWORK, "name": "other", "version": "3"}).encode(),
    "other version": json.dumps({**NETWORK, "name": "net", "version": "4"}).encode(),
}


class TestDamage:
    @pytest.mark.parametrize("kind", DAMAGED)
    def test_asked_for(self, store: Path, kind: str) -> None:
        """A model whose manifest is damaged, or is another's, is refused when it is asked for, and named."""
        put(store, "net", "3", DAMAGED[kind])
        with pytest.raises(ModelDamaged, match=r"^net/3/manifest\.json"):
            ModelStore(store).find("net@3", "network")

    @pytest.mark.parametrize("kind", DAMAGED)
    def test_hides_no_other(self, store: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        """A damaged manifest is left out of the list, aloud, and every other model is found as before."""
        put(store, "net", "3", DAMAGED[kind])
        models = ModelStore(store)
        with caplog.at_level(logging.WARNING):
            found = [artifact.spec for artifact in models.artifacts("network")]
        assert found == ["net@2", "net@9", "net@10", "other@1"]
        assert "net/3/manifest.json" in caplog.text
        assert models.find("net", "network").spec == "net@10"
        assert models.find("net@2", "network").spec == "net@2"

    def test_newest_is_damaged(self, store: Path) -> None:
        """A damaged newest version is an error, not an older version in its place."""
        put(store, "net", "11", b"{")
        with pytest.raises(ModelDamaged, match=r"^net/11/"):
            ModelStore(store).find("net", "network")

    def test_manifest_is_a_folder(self, store: Path) -> None:
        """A folder in a manifest's place is damage."""
        (store / "net" / "3" / "manifest.json").mkdir(parents=True)
        with pytest.raises(ModelDamaged):
            ModelStore(store).find("net@3", "network")

    def test_other_files(self, store: Path) -> None:
        """Files and folders that are no models disturb nothing."""
        (store / "README.md").write_text("hello")
        (store / "net" / "README.md").write_text("hello")
        (store / "net" / "empty").mkdir()
        (store / "manifest.json").write_text("{")
        assert len(ModelStore(store).artifacts("network")) == 4


class TestRead:
    def test_content(self, store: Path) -> None:
        """The bytes of a model are those of its file."""
        assert ModelStore(store).find("net", "network").read() == CONTENT

    @pytest.mark.parametrize("content", [b"", b"the mode1", CONTENT + b"\n"])
    def test_other_bytes(self, store: Path, content: bytes) -> None:
        """A file whose bytes are not those of the manifest's sha256 is not served."""
        (store / "net" / "10" / "model.onnx").write_bytes(content)
        with pytest.raises(ModelDamaged, match=r"^net@10: the sha256 of model.onnx is not the manifest's$"):
            ModelStore(store).find("net", "network").read()

    def test_no_file(self, store: Path) -> None:
        """A model without its file is named, with the reason."""
        (store / "net" / "10" / "model.onnx").unlink()
        with pytest.raises(ModelDamaged, match=r"^net@10: model.onnx cannot be read: No such file"):
            ModelStore(store).find("net", "network").read()


@pytest.mark.parametrize("key", ["learnt_from", "for_people"])
def test_who_a_network_is_for_is_never_guessed(tmp_path: Path, key: str) -> None:
    """A manifest that does not say what the network learnt from, or whether it is for people, is not served."""
    put(tmp_path, "net", "1", {name: value for name, value in NETWORK.items() if name != key})
    with pytest.raises(ModelDamaged, match=key):
        ModelStore(tmp_path).find("net", "network")


class TestShipped:
    @pytest.mark.parametrize(("spec", "kind"), [("timeconv-mini-xception", "network"), ("blazeface-short", "detector")])
    def test_models(self, spec: str, kind: Any) -> None:
        """The models that are shipped are whole."""
        assert ModelStore(shipped_model_store()).find(spec, kind).read()

    def test_geometry(self) -> None:
        """Every network that is shipped has a crop for each detector of the service, and seven labels."""
        for artifact in ModelStore(shipped_model_store()).artifacts("network"):
            assert isinstance(artifact.manifest, NetworkManifest)
            assert {"blazeface", "haar", "yunet"} <= set(artifact.manifest.crop)
            assert len(set(artifact.manifest.labels)) == 7
            assert 0 < artifact.manifest.uncertain_below < 1
