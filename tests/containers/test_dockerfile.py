"""The Dockerfile, as far as it can be judged without a container engine; `.ci/container` runs its steps."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from pathlib import Path

import pytest

from service.errors import BadConfiguration
from service.serve import check_entry
from service.settings import Settings, unknown_variables
from tests.conftest import LiveServer
from tests.containers import dockerfile

ROOT = Path(__file__).parents[2]
STAGES = dockerfile.read((ROOT / "Dockerfile").read_text())
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
SERVICES = ("cpu", "cuda")
TARGETS = (*SERVICES, "loadtest")


def locked(name: str) -> dict[str, set[str]]:
    """Versions by package in a file of requirements; one that differs by Python or system has several."""
    text = (ROOT / "requirements" / name).read_text()
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


def test_lint() -> None:
    """Hadolint finds nothing."""
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert hadolint is not None
    command = [hadolint, ROOT / "Dockerfile"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - of the lock
    assert (found.returncode, found.stdout) == (0, "")


def test_sources_are_in_the_build_context() -> None:
    """Every source of every COPY exists, and .dockerignore lets it through."""
    for stage in STAGES.values():
        for copy in stage.copies:
            if copy.stage is None:
                assert [source for source in copy.sources if not (ROOT / source).exists()] == []
                assert [source for source in copy.sources if dockerfile.is_ignored(source, IGNORED)] == []


def test_the_package_finds_what_it_is_built_from() -> None:
    """The stage that builds the wheel has all of it, down to the last file, and no compiled leftovers."""
    sources = {source for copy in STAGES["wheel"].copies for source in copy.sources}
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "service", "client", "model_store"} == sources
    for path in ("service/web/index.html", "service/cli.py", "model_store/timeconv-resnet20/1/model.onnx"):
        assert (ROOT / path).is_file()
        assert not dockerfile.is_ignored(path, IGNORED)
    assert dockerfile.is_ignored("service/vision/__pycache__/crop.cpython-311.pyc", IGNORED)


@pytest.mark.parametrize("path", [".git/config", ".env", ".venv/bin/python", "training/train.py", "tests/conftest.py"])
def test_nothing_else_is(path: str) -> None:
    """The builder does not get to see what no image needs."""
    assert dockerfile.is_ignored(path, IGNORED)


@pytest.mark.parametrize(
    ("path", "patterns", "ignored"),
    [
        ("a/b", ["a"], True),
        ("a/b", ["b"], False),
        ("a/b", ["*", "!a"], False),
        ("a/b/c.pyc", ["*", "!a", "**/*.py[cod]"], True),
        ("c.pyc", ["**/*.py[cod]"], True),
        ("a/b", ["a/*", "!a/b"], False),
        ("a/b/c", ["a/*", "!a/c"], True),
    ],
)
def test_rules_of_ignoring(path: str, patterns: list[str], ignored: bool) -> None:  # noqa: FBT001 - a table
    """The last pattern that meets a path or a folder of it decides."""
    assert dockerfile.is_ignored(path, patterns) is ignored


def test_base_images_have_versions() -> None:
    """Every image that is built on is named with its version, and all Pythons are the same one."""
    bases = {stage.base for stage in STAGES.values() if stage.base not in STAGES}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())


def test_stages_are_copied_from_before() -> None:
    """A COPY from a stage names an earlier one."""
    before: set[str] = set()
    for stage in STAGES.values():
        assert {copy.stage for copy in stage.copies if copy.stage} <= before
        before.add(stage.name)


def test_the_default_is_the_cpu() -> None:
    """A build that names no target builds the service for the CPU."""
    assert list(STAGES)[-1] == "cpu"


def test_only_locked_packages_are_installed() -> None:
    """Whatever pip brings from an index is a wheel, with its hash in a lock file; our own wheel comes from a stage."""
    installs = [
        part
        for stage in STAGES.values()
        for run in stage.having("RUN")
        for part in run.text.split("&&")
        if " install " in part and "pip" in part
    ]
    assert installs
    for install in installs:
        words = set(install.split())
        assert "--no-deps" in words
        if "/dist/*.whl" not in words:
            assert {"--require-hashes", "--only-binary=:all:"} <= words
            assert re.search(r"--requirement requirements/\w+\.txt$", install.strip())


def test_cuda_adds_to_the_lock_and_changes_nothing() -> None:
    """The environment of cuda is that of cpu, with the libraries that this ONNX Runtime says it needs."""
    cpu, cuda = locked("serve.txt"), locked("cuda.txt")
    added = set(cuda) - set(cpu)
    assert {name: cuda[name] for name in cuda if name not in added} == {name: cpu[name] for name in cpu if name in cuda}
    assert all(name.startswith("nvidia-") for name in added)
    wanted = [line for line in requires("onnxruntime-gpu") or [] if "extra ==" in line and "nvidia" in line]
    assert wanted
    assert {re.split(r"[^\w-]", line)[0] for line in wanted} <= added


@pytest.mark.parametrize("target", TARGETS)
def test_what_runs_is_not_root(target: str) -> None:
    """The user is a number that is not root's, and owns nothing but what is written to."""
    user, _, group = dockerfile.last(STAGES, target, "USER").text.partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    owned = [run.text for stage in dockerfile.lineage(STAGES, target) for run in stage.having("RUN")]
    assert re.findall(r"--owner=\d+ --group=\d+ (.*)$", " ".join(owned)) == ["/var/cache/timeconv /var/lib/timeconv"]


@pytest.mark.parametrize(("target", "locks"), [("cpu", {"serve.txt"}), ("cuda", {"serve.txt", "cuda.txt"})])
def test_what_is_in_the_service(target: str, locks: set[str]) -> None:
    """An image of the service gets one folder, for which nothing was installed but the service's own lock files."""
    copies = [copy for stage in dockerfile.lineage(STAGES, target) for copy in stage.copies]
    assert [(copy.sources, copy.destination) for copy in copies] == [(["/opt/timeconv"], "/opt/timeconv")]
    text = " ".join(step.text for stage in dockerfile.needed(STAGES, target) for step in stage.instructions)
    assert set(re.findall(r"requirements/(\S+)", text)) == locks
    assert re.findall(r"\btests\b|\btraining\b|\buv\b", text) == []
    assert "uninstall --yes build hatchling" in text


def test_what_is_in_the_load_test() -> None:
    """The load generator's image has every file of ours that it imports; the service itself is installed there."""
    program = """import sys, loadtest.load
ours = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("loadtest", "training")]
print(*ours, sep="\\n")"""
    command = [sys.executable, "-c", program]
    imported = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    copied = {source for copy in STAGES["loadtest"].copies if copy.stage is None for source in copy.sources}
    files = [Path(file).relative_to(ROOT) for file in imported.stdout.split()]
    assert len(files) > 10
    assert [file for file in files if not {str(file), *map(str, file.parents)} & copied] == []
    assert [file for file in files if dockerfile.is_ignored(str(file), IGNORED)] == []


@pytest.mark.parametrize("target", SERVICES)
def test_how_the_service_is_started(target: str) -> None:
    """The entry point is `timeconv serve`, stopped by SIGTERM."""
    assert dockerfile.last(STAGES, target, "ENTRYPOINT").words == ["timeconv", "serve"]
    assert dockerfile.last(STAGES, target, "STOPSIGNAL").text == "SIGTERM"


@pytest.mark.parametrize("target", TARGETS)
def test_variables_are_settings(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every TIMECONV_ variable of an image is a setting, with a value that is taken."""
    variables = dockerfile.environment(STAGES, target)
    assert unknown_variables(variables) == []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().host == variables.get("TIMECONV_HOST", "127.0.0.1")
    assert str(Settings().port) == dockerfile.last(STAGES, "cpu", "EXPOSE").text


@pytest.mark.parametrize("target", SERVICES)
def test_the_image_lets_nobody_in(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs an image and says nothing of keys gets no service that is open to all."""
    for name, value in dockerfile.environment(STAGES, target).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadConfiguration, match="TIMECONV_ALLOW_ANYONE"):
        check_entry(Settings())


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_reported(target: str) -> None:
    """ONNX Runtime, which reports home unless told otherwise before it is loaded, is told otherwise."""
    assert dockerfile.environment(STAGES, target)["ORT_DISABLE_TELEMETRY"] == "1"


def health(**variables: str) -> int:
    """The exit status of the image's check of its health, in a container with these variables."""
    python, *arguments = dockerfile.last(STAGES, "cpu", "HEALTHCHECK").words
    assert python == "python"
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, env=variables, stderr=subprocess.DEVNULL, timeout=30, check=False)  # noqa: S603 - ours
    return ran.returncode


def test_health(live_server: LiveServer) -> None:
    """The image's own check calls a running service healthy, whatever proxy the environment names."""
    port = live_server.url.rpartition(":")[2]
    assert health(TIMECONV_PORT=port, http_proxy="http://127.0.0.1:9") == 0


@contextmanager
def answering(status: int) -> Iterator[str]:
    """The port of a server that answers everything with ``status``."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield str(server.server_port)
        finally:
            server.shutdown()
            thread.join()


def test_health_on_the_port_for_operations() -> None:
    """It asks the port for operations where there is one, so that it need not speak TLS; 0 stands for none."""
    with answering(200) as healthy, answering(503) as other:
        assert health(TIMECONV_PORT=other, TIMECONV_OPS_PORT=healthy) == 0
        assert health(TIMECONV_PORT=healthy, TIMECONV_OPS_PORT="0") == 0


def test_ill_health() -> None:
    """A service that answers 503, and one that does not answer, is not healthy."""
    with answering(503) as port:
        assert health(TIMECONV_PORT=port) == 1
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert health(TIMECONV_PORT=str(silent.getsockname()[1])) == 1
