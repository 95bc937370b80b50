"""The import rules of docs/design.md, read off the files: no test imports the modules it judges."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# Lowest first. A module imports from its own layer and those below it. ``vision`` and ``inference`` are one layer: a
# window's shape is the networks' input. ``telemetry`` observes sessions and batches; neither knows it.
LAYERS: list[set[str]] = [
    {"service", "service.errors", "service.settings"},
    {
        "service.protocol",
        "service.vision",
        "service.inference",
        "service.streaming",
        "service.access",
        "service.limits",
        "service.aside",
        "service.smoothing",
    },
    {"service.telemetry", "service.answers", "service.session", "service.predict", "service.places", "service.outbox"},
    {"service.gate"},
    {
        "service.sessions",
        "service.watchdog",
        "service.model_watch",
        "service.drain",
        "service.resume",
        "service.websocket",
        "service.inlet",
    },
    {"service.engine"},
    {"service.api", "service.doctor"},
    {"service.app", "service.http"},
    {"service.acceptor"},
    {"service.serve"},
    {"service.cli"},
]

PURE = ("service.vision", "service.protocol", "service.errors")
KEPT_OUT_OF_PURE = {
    "asyncio",
    "fastapi",
    "httpx",
    "onnx",
    "onnxruntime",
    "prometheus_client",
    "pydantic",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
}
TRAINING_MAY_IMPORT = (
    "service.vision.boxes",
    "service.vision.crop",
    "service.vision.detect",
    "service.inference.artifact",
)


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for folder in ("service", "training") for path in sorted((REPOSITORY / folder).rglob("*.py"))
}
SERVICE = [name for name in MODULES if name.partition(".")[0] == "service"]
TRAINING = [name for name in MODULES if name.partition(".")[0] == "training"]


def within(name: str, package: str) -> bool:
    """Whether a module is a package, or in it."""
    return name == package or name.startswith(f"{package}.")


def imports(name: str) -> set[str]:
    """Every module that a module imports, in functions too; ``from a import b`` is a.b where that is a module."""
    return set(_imports(ast.parse(MODULES[name].read_text(encoding="utf-8")), name))


def _imports(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def reached(name: str) -> set[str]:
    """Every module that is loaded with a module: what it imports, and so on, and the packages these lie in."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        if module in MODULES:
            waiting += imports(module)
            waiting += [parent for parent in (module.rpartition(".")[0],) if parent]
    return found - {name}


def layer(name: str) -> int:
    """A module's place from the bottom."""
    places = [
        place for place, packages in enumerate(LAYERS) if any(within(name, one) for one in packages - {"service"})
    ]
    return places[0] if places else 0


def test_modules_are_found() -> None:
    """The rules below are held against every module there is."""
    assert {"service.app", "service.vision.crop", "service.vision.detect", "training.train"} <= set(MODULES)
    assert "onnxruntime" in imports("service.inference.runner")
    assert "service.inference.artifact" in reached("service.app")


@pytest.mark.parametrize("name", SERVICE)
def test_every_module_has_a_layer(name: str) -> None:
    """No module of the service stands outside of the layers."""
    assert name == "service" or any(within(name, one) for packages in LAYERS for one in packages - {"service"})


@pytest.mark.parametrize("name", SERVICE)
def test_one_way(name: str) -> None:
    """A module imports from its own layer and from below, never from above."""
    above = {other for other in imports(name) if other in MODULES and layer(other) > layer(name)}
    assert above == set()


@pytest.mark.parametrize("name", [name for name in SERVICE if any(within(name, one) for one in PURE)])
def test_pure(name: str) -> None:
    """Vision, protocol and errors know no event loop, web framework, metrics or engine, nor does what they import."""
    assert {other.partition(".")[0] for other in reached(name)} & KEPT_OUT_OF_PURE == set()


@pytest.mark.parametrize("name", [name for name in SERVICE if within(name, "service.vision")])
def test_vision_stands_alone(name: str) -> None:
    """Vision imports nothing of the service but errors."""
    others = {other for other in imports(name) if within(other, "service") and not within(other, "service.vision")}
    assert others <= {"service.errors"}


@pytest.mark.parametrize("name", ["service.inference.scheduler", "service.inference.batch"])
def test_scheduler(name: str) -> None:
    """What decides on work has no threads, event loop, clock, metrics or engine."""
    kept_out = {"asyncio", "threading", "time", "queue", "logging", "prometheus_client", "onnxruntime"}
    assert {other.partition(".")[0] for other in imports(name)} & kept_out == set()


@pytest.mark.parametrize("name", [name for name in SERVICE if within(name, "service.inference")])
def test_inference_knows_no_session(name: str) -> None:
    """The engine knows neither the wire nor the web nor metrics."""
    tops = {other.partition(".")[0] for other in reached(name)}
    assert tops & {"fastapi", "starlette", "prometheus_client", "uvicorn", "websockets"} == set()
    assert "service.protocol" not in imports(name)


def test_composition_root() -> None:
    """Only the command line and what it starts import the composition root."""
    importers = {name for name in SERVICE if "service.app" in imports(name)}
    assert importers <= {"service.cli", "service.serve"}


def test_only_telemetry_knows_prometheus() -> None:
    """Metrics are defined in one place; only the endpoint of ``/metrics`` also knows their formats' names."""
    importers = {name for name in SERVICE if any(within(other, "prometheus_client") for other in imports(name))}
    assert importers == {"service.telemetry.metrics", "service.telemetry.series", "service.api.health"}


def test_only_traces_know_opentelemetry() -> None:
    """It is an extra: one module imports it; of those that import that one a test of the service sees when."""
    importers = {name for name in SERVICE if any(within(other, "opentelemetry") for other in imports(name))}
    assert importers == {"service.telemetry.traces"}
    assert {name for name in SERVICE if importers & imports(name)} == {"service.engine", "service.api.predict"}


@pytest.mark.parametrize("name", TRAINING)
def test_training(name: str) -> None:
    """Training takes crop, detectors, boxes and the model store from the service, and nothing else."""
    taken = {other for other in imports(name) if within(other, "service")}
    assert {other for other in taken if not any(within(other, one) for one in TRAINING_MAY_IMPORT)} == set()


@pytest.mark.parametrize("name", SERVICE)
def test_service_without_training(name: str) -> None:
    """The service runs without torch, and without the offline half."""
    tops = {other.partition(".")[0] for other in imports(name)}
    assert tops & {"torch", "training", "tests", "matplotlib", "onnx", "skimage"} == set()


def test_no_circles() -> None:
    """No module is reached from itself."""

    def circle(name: str, path: tuple[str, ...]) -> tuple[str, ...] | None:
        if name in path:
            return (*path, name)
        if name in seen:
            return None
        seen.add(name)
        found = (circle(other, (*path, name)) for other in sorted(imports(name)) if other in MODULES)
        return next((way for way in found if way), None)

    seen: set[str] = set()
    assert [way for name in sorted(MODULES) if (way := circle(name, ()))] == []
