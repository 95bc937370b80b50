"""docker-compose.yml and what it mounts, as far as they can be judged without a container engine."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from loadtest.load import _parser
from service.serve import check_entry
from service.settings import Settings, unknown_variables
from tests.containers import dockerfile

ROOT = Path(__file__).parents[2]
STAGES = dockerfile.read((ROOT / "Dockerfile").read_text())
WORST_STOP_S = 6
"""What stopping takes over TIMECONV_DRAIN_MS at the very worst, by docs/configuration.md."""


def load(file: str) -> Any:
    """A YAML file of the repository."""
    return YAML(typ="safe", pure=True).load(ROOT / file)


def filled(text: str) -> str:
    """A value with its ``${NAME:-default}`` filled in, where nobody has set a variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE = load("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("service", "service-gpu")


def mounts(name: str) -> dict[str, str]:
    """Sources by the path they are mounted at."""
    found = (filled(volume).split(":") for volume in SERVICES[name].get("volumes", []))
    return {path: source for source, path, *_ in found}


def test_schema() -> None:
    """The file is one by the Compose Specification's JSON schema."""
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"]
    found = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_contained(name: str) -> None:
    """Every container has a read-only root, no capabilities, no way to gain any, and bounds."""
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108 - the container's
    assert float(filled(limits["cpus"])) > 0
    assert re.fullmatch(r"\d+[mg]", limits["memory"])
    assert service["pids_limit"] > 0
    assert service["restart"] == ("no" if name == "loadtest" else "unless-stopped")


@pytest.mark.parametrize("name", SERVICES)
def test_published_for_this_machine_alone(name: str) -> None:
    """No port is published but on the loopback, since nobody is asked for a key."""
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_volumes(name: str) -> None:
    """What is mounted from the repository is there and cannot be written; other volumes are declared."""
    for volume in SERVICES[name].get("volumes", []):
        source, _, *mode = filled(volume).split(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
    assert set(COMPOSE["volumes"]) == {s for n in SERVICES for s in mounts(n).values() if not s.startswith(".")}


@pytest.mark.parametrize("name", SERVICES)
def test_images(name: str) -> None:
    """An image is built from a target of the Dockerfile, or named with a version."""
    service = SERVICES[name]
    if "build" in service:
        assert service["build"]["target"] in STAGES
        assert service["image"] == f"timeconv:{service['build']['target']}"
    else:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_waiting_for_health(name: str) -> None:
    """Who waits for another waits until it is healthy, and that one has a check of its health."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        checked = SERVICES[other]["healthcheck"]
        assert "test" in checked or dockerfile.last(STAGES, SERVICES[other]["build"]["target"], "HEALTHCHECK")


@pytest.mark.parametrize("name", OURS)
def test_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every TIMECONV_ variable is a setting with a value that is taken, and with the image's own the service starts."""
    service = SERVICES[name]
    given = {key: filled(str(value)) for key, value in service["environment"].items()}
    variables = dockerfile.environment(STAGES, service["build"]["target"]) | given
    assert unknown_variables(variables) == []
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    check_entry(settings)
    assert settings.workers == float(filled(service["deploy"]["resources"]["limits"]["cpus"]))
    assert str(settings.model_store) in mounts(name)
    assert settings.engine_cache is None or str(settings.engine_cache) in mounts(name)
    assert [filled(port) for port in service["ports"]] == [f"127.0.0.1:8000:{settings.port}"]
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.drain_ms / 1000 + WORST_STOP_S


def test_the_gpu_takes_the_place_of_the_cpu() -> None:
    """The service on a GPU has its own profile, a device, and the other's port and name in the network."""
    gpu = SERVICES["service-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["ports"] == SERVICES["service"]["ports"]
    assert gpu["networks"]["default"]["aliases"] == ["service"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]


def test_the_load_test() -> None:
    """The load generator takes its command, sends to the service, and writes where it may."""
    service = SERVICES["loadtest"]
    arguments = _parser().parse_args(service["command"])
    assert service["profiles"] == ["loadtest"]
    assert arguments.url == "http://service:8000"
    assert str(arguments.out.parent) in mounts("loadtest")
    assert dockerfile.last(STAGES, "loadtest", "ENTRYPOINT").words == ["python", "-m", "loadtest.load"]


def test_what_prometheus_reads() -> None:
    """Prometheus finds its configuration and rules, and scrapes the service by its name and port."""
    config = load("monitoring/prometheus.yml")
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets["timeconv"] == [f"service:{dockerfile.last(STAGES, 'cpu', 'EXPOSE').text}"]
    assert mounts("prometheus")["/etc/prometheus/prometheus.yml"] == "./monitoring/prometheus.yml"
    assert config["rule_files"] == ["rules/*.yml"]
    assert {path.name for path in (ROOT / "monitoring/rules").iterdir()} == {"alerts.yml", "recording.yml"}
    assert mounts("prometheus")["/etc/prometheus/rules"] == "./monitoring/rules"
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]


def test_what_grafana_reads() -> None:
    """Grafana's data source is Prometheus by its name in the network, and its dashboards are where they are mounted."""
    provisioning = Path(mounts("grafana")["/etc/grafana/provisioning"])
    (source,) = load(str(provisioning / "datasources/prometheus.yml"))["datasources"]
    assert (source["uid"], source["type"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")
    assert SERVICES["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    (provider,) = load(str(provisioning / "dashboards/timeconv.yml"))["providers"]
    assert mounts("grafana")[provider["options"]["path"]] == "./monitoring/grafana/dashboards"
    assert source["jsonData"]["timeInterval"] == load("monitoring/prometheus.yml")["global"]["scrape_interval"]
