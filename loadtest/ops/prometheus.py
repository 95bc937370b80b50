"""A Prometheus of our own, with the project's configuration, asked over its HTTP API."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loadtest.errors import CannotGenerate
from loadtest.servers import end

MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
SCRAPE_S = 1
_READY_TIMEOUT_S = 30
_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and values by time (seconds since 1970)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as Prometheus runs it. ``health`` is ``ok`` if its last evaluation was."""

    name: str
    query: str
    is_alert: bool
    health: str
    error: str


class Prometheus:
    """One that runs at ``address``."""

    def __init__(self, address: str) -> None:
        """``address``: without a path."""
        self.address = address

    def over(self, query: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """What ``query`` comes to at each step of a time.

        Raises:
            BadQuery: Prometheus cannot make anything of it.
        """
        found = self._ask("query_range", query=query, start=start_s, end=end_s, step=step_s)
        return [Series(one["metric"], list(map(_point, one["values"]))) for one in found["result"]]

    def rules(self) -> list[Rule]:
        """All rules that it runs."""
        return [
            Rule(rule["name"], rule["query"], rule["type"] == "alerting", rule["health"], rule.get("lastError", ""))
            for group in self._ask("rules")["groups"]
            for rule in group["rules"]
        ]

    def _ask(self, what: str, **parameters: object) -> Any:  # noqa: ANN401 - JSON
        url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - ours
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise BadQuery(json.load(error)["error"]) from error


class BadQuery(Exception):
    """Prometheus cannot make anything of a query; it says why."""


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``target`` (host:port) as the project's configuration says, but every second.

    Rules are evaluated as often. ``folder`` is empty; its configuration, data and log lie there.

    Raises:
        CannotGenerate: there is none on this machine, or it did not start.
    """
    if (program := shutil.which("prometheus")) is None:
        raise CannotGenerate("There is no prometheus on this machine (Debian: apt-get install prometheus)")
    address = f"127.0.0.1:{free_port()}"
    (folder / "prometheus.yml").write_text(configuration(target, address), encoding="utf-8")
    (folder / "rules").mkdir()
    for file in (MONITORING / "rules").glob("*.yml"):
        (folder / "rules" / file.name).write_text(every_second(file), encoding="utf-8")
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stderr=log, stdout=log) as process,  # noqa: S603 - Debian's
    ):
        try:
            _until_ready(f"http://{address}", process, folder / "prometheus.log")
            yield Prometheus(f"http://{address}")
        finally:
            end(process)


def configuration(target: str, own: str) -> str:
    """The project's, with the addresses that hold here."""
    content = YAML(typ="safe").load(MONITORING / "prometheus.yml")
    content["global"] |= {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    targets = {"timeconv": target, "prometheus": own}
    for job in content["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    return json.dumps(content)  # JSON is YAML.


def every_second(rules: Path) -> str:
    """A file of rules whose groups are all evaluated as often as the configuration says."""
    content = YAML(typ="safe").load(rules)
    for group in content["groups"]:
        group.pop("interval", None)
    return json.dumps(content)


def _until_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/-/ready", timeout=1):  # noqa: S310 - ours
                return
        except OSError:
            time.sleep(0.1)
    raise CannotGenerate(f"Prometheus did not start: {log.read_text(encoding='utf-8').strip()}")


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
