"""Lay the networks of the model store out in Markdown, from their manifests alone."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from training import manifest
from training.datasets.titles import FER2013

SPLITS = {"public": "PublicTest", "private": "PrivateTest"}
WAYS = {"plain": "plain", "deduplicated": "de-duplicated"}
RARE = ("disgust", "fear")


def newest(store: Path) -> list[manifest.Manifest]:
    """Read the manifest of each network's newest version, by name."""
    found = [manifest.read(file.parent) for file in store.glob(f"*/*/{manifest.NAME}")]
    networks = sorted((each for each in found if each["kind"] == "network"), key=lambda each: int(each["version"]))
    by_name = {each["name"]: each for each in networks}
    return [by_name[name] for name in sorted(by_name)]


def learnt_from_faces(described: manifest.Manifest) -> bool:
    """Tell whether a network was trained on pictures of people, so that it may be shown them."""
    return bool(described["learnt_from"] == FER2013)


def summary(networks: Iterable[manifest.Manifest]) -> str:
    """A row a network learnt from people's faces: what a user chooses by, on PrivateTest, de-duplicated."""
    header = (
        "network",
        "weights",
        "ms a window",
        "FER+ accuracy",
        "mean recall",
        *RARE,
        "ECE",
        "sure",
        "right when sure",
    )
    return table([header, *(_summary_row(each) for each in networks if learnt_from_faces(each))])


def _summary_row(network: manifest.Manifest) -> tuple[str, ...]:
    split = network["scores"].get("private", {})
    scores, trusted = split.get("deduplicated", {}), split.get("certain", {})
    recall = [scores.get("recall", {}).get(label) for label in RARE]
    shares = [scores.get("ferplus_accuracy"), scores.get("mean_recall"), *recall, scores.get("ece")]
    shares += [trusted.get("coverage"), trusted.get("accuracy")]
    time = network.get("latency", {}).get("mean_ms")
    return (*_name(network), "-" if time is None else f"{time:.2f}", *map(_share, shares))


def faces_table(networks: Iterable[manifest.Manifest]) -> str:
    """A row for each network learnt from people's faces, split and way of counting; `-`: not measured."""
    chosen = [each for each in networks if learnt_from_faces(each)]
    labels = _labels(chosen)
    header = (
        "network",
        "weights",
        "split",
        "counted",
        "FER2013 accuracy",
        "FER+ accuracy",
        "mean recall",
        "ECE",
        *labels,
    )
    return table([header, *(row for network in chosen for row in _faces_rows(network, labels))])


def _faces_rows(network: manifest.Manifest, labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for split, split_title in SPLITS.items():
        for way, way_title in WAYS.items():
            scores: dict[str, Any] = network["scores"].get(split, {}).get(way, {})
            shares = [scores.get(name) for name in ("fer_accuracy", "ferplus_accuracy", "mean_recall", "ece")]
            recall = [scores.get("recall", {}).get(label) for label in labels]
            yield *_name(network), split_title, way_title, *map(_share, shares + recall)


def windows_table(networks: Iterable[manifest.Manifest]) -> str:
    """A row for each network learnt from windows, on their test part; `-`: not measured."""
    chosen = [each for each in networks if not learnt_from_faces(each)]
    labels = _labels(chosen)
    header = ("network", "weights", "windows", "top-1", "mean recall", "ECE", "sure", "right when sure", *labels)
    return table([header, *(_windows_row(network, labels) for network in chosen)])


def _windows_row(network: manifest.Manifest, labels: Sequence[str]) -> tuple[str, ...]:
    scores = network["scores"].get("test", {})
    trusted = scores.get("certain", {})
    shares = [scores.get(name) for name in ("accuracy", "mean_recall", "ece")]
    shares += [trusted.get("coverage"), trusted.get("accuracy")]
    recall = [scores.get("recall", {}).get(label) for label in labels]
    return (*_name(network), f"{scores['windows']:,}" if scores else "-", *map(_share, shares + recall))


def table(lines: Sequence[tuple[str, ...]]) -> str:
    """Lay out Markdown: a header and rows."""
    header, *rows = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, tuple("---" for _ in header), *rows))


def _labels(networks: Sequence[manifest.Manifest]) -> tuple[str, ...]:
    return tuple(networks[0]["labels"]) if networks else ()


def _name(network: manifest.Manifest) -> tuple[str, str]:
    return f"`{network['name']}`", f"{network['parameters']['total']:,}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
