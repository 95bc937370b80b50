"""What queries can ask the service for."""

from itertools import chain

from tests.unit.telemetry.every import every_metric


def told() -> dict[str, dict[str, set[str]]]:
    """What the service tells: values by label by series."""
    found: dict[str, dict[str, set[str]]] = {}
    for sample in chain.from_iterable(family.samples for family in every_metric().registry.collect()):
        labels = found.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return found
