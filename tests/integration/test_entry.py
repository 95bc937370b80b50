"""Who is let in, over real HTTP and WebSocket connections: keys, tokens, sites, places."""

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from typer.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from service.access import new_key
from service.cli import app
from service.settings import Settings
from tests.conftest import LiveServer, serving
from timeconv_client import TooMany, Unauthorized, Unavailable
from timeconv_client import connect as open_session

FRIEND = "https://friend.example"
PROXIED = "127.0.0.1"
REPOSITORY = Path(__file__).parents[2]
PACKAGES = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "client")))


@dataclass(frozen=True)
class Guarded:
    """A service with keys: one of any number of sessions, one of a single session."""

    server: LiveServer
    key: str
    single: str
    file: Path

    def post(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return httpx.post(self.server.url + path, headers=headers)

    def token(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.post("/v1/tokens", self.key).json()
        return answer


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service with two keys that lets pages of one other site in, and believes a proxy on this machine."""
    (key, line), (single, single_line) = new_key("many"), new_key("single")
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{line}\n{single_line} sessions=1\n")
    settings = Settings(
        port=0, keys_file=file, allowed_origins=FRIEND, trusted_proxies=PROXIED, max_sessions_per_address=1, workers=1
    )
    with serving(settings) as server:
        yield Guarded(server, key, single, file)


async def started(socket: ClientConnection) -> str:
    return str(json.loads(await asyncio.wait_for(socket.recv(), 30))["type"])


def upgrade(server: LiveServer, *subprotocols: str, **headers: str) -> tuple[str, str | None]:
    """The type of the first message, and the subprotocol that was chosen."""

    async def run() -> tuple[str, str | None]:
        async with connect(
            server.ws, subprotocols=[*subprotocols] or None, additional_headers=headers, compression=None
        ) as socket:
            return await started(socket), socket.subprotocol

    return asyncio.run(run())


def refusal(server: LiveServer, *subprotocols: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and problem of an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        upgrade(server, *subprotocols, **headers)
    response = refused.value.response
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b"")


def raw_upgrade(server: LiveServer, headers: dict[str, str]) -> tuple[int, str]:
    """Status and code of an upgrade with headers that a client sets otherwise."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    response = httpx.get(f"{server.url}/v1/stream", headers={**upgrade, **key, **headers})
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/predict"), ("GET", "/v1/models"), ("POST", "/v1/tokens")])
@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer tc_wrong", "Basic dXNlcjpwYXNz", "Bearer a.b", "x"])
def test_rest_without_a_key(guarded: Guarded, method: str, path: str, authorization: str | None) -> None:
    """Every REST path under /v1 refuses who has no key, or none that is valid, and says how one is given."""
    headers = {} if authorization is None else {"Authorization": authorization}
    response = httpx.request(method, guarded.server.url + path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_rest_with_a_key(guarded: Guarded, face_jpeg: bytes) -> None:
    """A key or a token of it opens REST; health and metrics are for operations and ask for none."""
    for credential in (guarded.key, guarded.token()["token"]):
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "image/jpeg"}
        assert httpx.get(f"{guarded.server.url}/v1/models", headers=headers).status_code == HTTPStatus.OK
        answer = httpx.post(f"{guarded.server.url}/v1/predict", headers=headers, content=face_jpeg)
        assert answer.json()["type"] == "prediction"
    assert httpx.get(f"{guarded.server.url}/healthz").status_code == HTTPStatus.OK


def test_an_upgrade_without_a_key(guarded: Guarded) -> None:
    """An upgrade without a key, or with a wrong one, is refused with 401 and problem details."""
    for headers in ({}, {"Authorization": "Bearer tc_wrong"}):
        status, problem = refusal(guarded.server, **headers)
        assert (status, problem["code"], problem["retryable"]) == (401, "unauthorized", False)


@pytest.mark.parametrize("text", ["key", "token"])
def test_neither_is_taken_from_the_query(guarded: Guarded, text: str) -> None:
    """A key in the query lets nobody in: queries end up in logs."""
    server = LiveServer(guarded.server.url, [])
    with pytest.raises(InvalidStatus):
        asyncio.run(_open(f"{server.ws}?{text}={guarded.key}"))


async def _open(url: str) -> None:
    async with connect(url):
        pass


def test_an_upgrade_with_a_key(guarded: Guarded) -> None:
    """A bearer key opens a session."""
    assert upgrade(guarded.server, Authorization=f"Bearer {guarded.key}")[0] == "session.started"


def test_an_upgrade_with_a_token(guarded: Guarded) -> None:
    """A token as a subprotocol opens a session; the subprotocol that is chosen is the protocol, never the token."""
    said = guarded.token()
    assert said["subprotocol"] == f"timeconv.auth.{said['token']}"
    expected = ("session.started", "timeconv.v1")
    assert upgrade(guarded.server, "timeconv.v1", said["subprotocol"]) == expected
    assert upgrade(guarded.server, said["subprotocol"], "timeconv.v1") == expected
    forged = said["subprotocol"][:-4] + "AAAA"
    assert refusal(guarded.server, "timeconv.v1", forged)[0] == HTTPStatus.UNAUTHORIZED


def test_tokens_make_no_tokens(guarded: Guarded) -> None:
    """A token does not get another, or it would never expire; and nobody on the way keeps it."""
    assert guarded.post("/v1/tokens", guarded.key).headers["cache-control"] == "no-store"
    assert guarded.post("/v1/tokens", guarded.token()["token"]).status_code == HTTPStatus.UNAUTHORIZED


def test_without_keys_tokens_are_null(live_server: LiveServer) -> None:
    """Where no key is asked for the page learns that it needs no token."""
    answer = httpx.post(f"{live_server.url}/v1/tokens").json()
    assert (answer["token"], answer["subprotocol"]) == (None, None)


class TestSites:
    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://friend.example", FRIEND + ".evil.example"]
    )
    def test_another_site(self, guarded: Guarded, live_server: LiveServer, origin: str) -> None:
        """A page of another site gets nothing, on the stream and over REST, with or without keys to guess."""
        key = {"Authorization": f"Bearer {guarded.key}", "Origin": origin}
        assert refusal(guarded.server, **key)[1]["code"] == "origin_refused"
        assert refusal(live_server, Origin=origin)[0] == HTTPStatus.FORBIDDEN
        for path in ("/v1/tokens", "/v1/predict"):
            response = guarded.post(path, guarded.key, Origin=origin)
            assert (response.status_code, response.json()["code"]) == (403, "origin_refused")
            assert "access-control-allow-origin" not in response.headers

    def test_its_own_site_and_a_friend(self, guarded: Guarded) -> None:
        """The service's own page and those of allowed sites come in."""
        for origin in (guarded.server.url, FRIEND):
            headers = {"Authorization": f"Bearer {guarded.key}", "Origin": origin}
            assert upgrade(guarded.server, **headers)[0] == "session.started"

    @pytest.mark.parametrize("host", ["evil.example:8542", "127.0.0.1.evil.example", "192.0.2.1", ""])
    def test_a_name_made_to_point_here(self, live_server: LiveServer, host: str) -> None:
        """Without keys a page whose own name leads to the loopback gets nothing, though host and origin agree."""
        for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
            assert raw_upgrade(live_server, headers) == (403, "origin_refused")
            for method, path in (("POST", "/v1/tokens"), ("POST", "/v1/predict"), ("GET", "/v1/models")):
                response = httpx.request(method, live_server.url + path, headers=headers)
                assert (response.status_code, response.json()["code"]) == (403, "origin_refused")
        assert httpx.get(f"{live_server.url}/healthz", headers={"Host": host}).status_code == HTTPStatus.OK

    @pytest.mark.parametrize(
        "host", ["localhost:8000", "LOCALHOST", "127.0.0.1", "127.1.2.3:80", "[::1]:8000", "[::1]"]
    )
    def test_this_machine_by_its_name(self, live_server: LiveServer, host: str) -> None:
        """The loopback's names and addresses come in, with any port."""
        assert httpx.get(f"{live_server.url}/v1/models", headers={"Host": host}).status_code == HTTPStatus.OK

    def test_other_names_with_keys(self, guarded: Guarded) -> None:
        """Where keys are asked for the host may be any, as behind a proxy."""
        headers = {
            "Authorization": f"Bearer {guarded.key}",
            "Host": "service.example",
            "Origin": "https://service.example",
        }
        assert httpx.get(f"{guarded.server.url}/v1/models", headers=headers).status_code == HTTPStatus.OK

    def test_other_names_that_are_allowed(self) -> None:
        """Without keys the host of an allowed site comes in; with `allow_anyone` each does."""
        for settings in ({"allowed_origins": FRIEND}, {"allowed_origins": "*"}, {"allow_anyone": True}):
            with serving(Settings.model_validate({"port": 0, "workers": 1, **settings})) as server:
                headers = {"Host": FRIEND.partition("://")[2]}
                assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == HTTPStatus.OK

    def test_a_friend_reads_answers(self, guarded: Guarded) -> None:
        """An allowed site may read tokens, predictions and errors, and ask beforehand; nothing else is open to it."""
        for key, status in ((guarded.key, 200), ("tc_wrong", 401)):
            response = guarded.post("/v1/tokens", key, Origin=FRIEND)
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, FRIEND)
        asked = {"Origin": FRIEND, "Access-Control-Request-Method": "POST"}
        for path, expected in (("/v1/tokens", FRIEND), ("/v1/predict", FRIEND), ("/v1/models", None)):
            headers = {**asked, "Access-Control-Request-Headers": "authorization"}
            answer = httpx.options(guarded.server.url + path, headers=headers)
            assert answer.headers.get("access-control-allow-origin") == expected


class TestPlaces:
    def test_of_a_key(self, guarded: Guarded) -> None:
        """A key with one session gets 429 for a second, as does its page at /v1/tokens; the place comes back."""

        async def run() -> None:
            async with open_session(guarded.server.url, key=guarded.single):
                with pytest.raises(TooMany, match="1 sessions of this key") as refused:
                    async with open_session(guarded.server.url, key=guarded.single):
                        pass
                assert refused.value.retry_after_ms == 5000
                asked = await asyncio.to_thread(guarded.post, "/v1/tokens", guarded.single)
                assert (asked.status_code, asked.json()["retry_after_ms"], asked.headers["retry-after"]) == (
                    429,
                    5000,
                    "5",
                )
                async with open_session(guarded.server.url, key=guarded.key):
                    pass

        asyncio.run(run())
        assert guarded.post("/v1/tokens", guarded.single).status_code == HTTPStatus.OK

    def test_of_an_address(self, guarded: Guarded) -> None:
        """An address that a trusted proxy names gets its own number of sessions; another address does too."""

        async def run() -> list[int]:
            headers = {"Authorization": f"Bearer {guarded.key}", "X-Forwarded-For": "203.0.113.5"}
            statuses = []
            async with connect(guarded.server.ws, additional_headers=headers) as socket:
                await started(socket)
                for address in ("203.0.113.5", "::ffff:203.0.113.5", "203.0.113.6", "198.51.100.1, 203.0.113.5"):
                    asked = await asyncio.to_thread(
                        guarded.post, "/v1/tokens", guarded.key, **{"X-Forwarded-For": address}
                    )
                    statuses.append(asked.status_code)
            return statuses

        assert asyncio.run(run()) == [429, 429, 200, 429]

    def test_a_proxy_is_not_believed_unasked(self) -> None:
        """Without trusted proxies a caller cannot choose its address."""

        async def run(server: LiveServer) -> None:
            headers = {"X-Forwarded-For": "203.0.113.5"}
            async with (
                connect(server.ws, additional_headers=headers) as one,
                connect(server.ws, additional_headers=headers) as other,
            ):
                assert [await started(one), await started(other)] == ["session.started"] * 2

        with serving(Settings(port=0, max_sessions_per_address=1, workers=1)) as server:
            asyncio.run(run(server))


def test_the_client_names_refusals(guarded: Guarded) -> None:
    """The client package turns each refusal into an error of its own, and refuses a key that cannot be one."""

    async def opened(server: LiveServer, key: str | None) -> None:
        async with open_session(server.url, key=key):
            pass

    for key in (None, "tc_wrong"):
        with pytest.raises(Unauthorized):
            asyncio.run(opened(guarded.server, key))
    for bad in ("", "a b", "a\r\nX: y", "ä"):
        with pytest.raises(ValueError, match="ASCII"):
            asyncio.run(opened(guarded.server, bad))
    asyncio.run(opened(guarded.server, guarded.key))

    async def full(server: LiveServer) -> None:
        async with open_session(server.url):
            await opened(server, None)

    with serving(Settings(port=0, max_sessions=1, workers=1)) as server, pytest.raises(Unavailable):
        asyncio.run(full(server))


def test_the_command_takes_a_key(
    guarded: Guarded, face_jpeg: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeconv stream` takes the key as an option or from TIMECONV_KEY, and says so where there is none."""
    picture = tmp_path / "face.jpg"
    picture.write_bytes(face_jpeg)
    words = ["stream", str(picture), "--url", guarded.server.url, "--every", "--quiet"]
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, "--key or TIMECONV_KEY" in refused.output) == (1, True)
    assert CliRunner().invoke(app, [*words, "--key", guarded.key]).exit_code == 0
    monkeypatch.setenv("TIMECONV_KEY", guarded.key)
    assert CliRunner().invoke(app, words).exit_code == 0
    assert guarded.key not in CliRunner().invoke(app, ["stream", "--help"]).output


def test_a_key_is_taken_away(tmp_path: Path) -> None:
    """A key taken out of the file opens nothing more, its sessions end with the reason, and others go on."""
    (key, line), (other, other_line) = new_key("a"), new_key("b")
    file = tmp_path / "keys"
    file.write_text(f"{line}\n{other_line}\n")

    async def run(server: LiveServer) -> None:
        def bearer(key: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {key}"}

        async with (
            connect(server.ws, additional_headers=bearer(key)) as leaves,
            connect(server.ws, additional_headers=bearer(other)) as stays,
        ):
            assert [await started(leaves), await started(stays)] == ["session.started"] * 2
            file.write_text(other_line)
            error = json.loads(await asyncio.wait_for(leaves.recv(), 30))
            assert (error["type"], error["code"]) == ("error", "unauthorized")
            with pytest.raises(ConnectionClosedError) as closed:
                await leaves.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            await stays.send('{"type":"session.close"}')
            assert await started(stays) == "session.closed"
        with pytest.raises(InvalidStatus):
            await _open_with(server.ws, bearer(key))

    with serving(Settings(port=0, keys_file=file, workers=1)) as server:
        asyncio.run(run(server))


async def _open_with(url: str, headers: dict[str, str]) -> None:
    async with connect(url, additional_headers=headers):
        pass


class Command:
    """``timeconv serve`` as a process of its own, and every line it writes."""

    def __init__(self, **settings: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("TIMECONV_")}
        environment |= {f"TIMECONV_{name}": value for name, value in settings.items()}
        environment |= {
            "TIMECONV_PORT": "0",
            "TIMECONV_WORKERS": "1",
            "TIMECONV_LOG_FORMAT": "json",
            "PYTHONPATH": PACKAGES,
        }
        words = [sys.executable, "-m", "service.cli", "serve"]
        self.process = subprocess.Popen(  # noqa: S603 - our own
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)
        self._reader.join(30)

    def line(self, message: str) -> dict[str, Any]:
        """The next log line with this message."""
        while True:
            text = self._new.get(timeout=30)
            if text.startswith("{") and (found := json.loads(text))["message"].startswith(message):
                return dict(found)

    def stop(self) -> int:
        """Its exit status, once it has ended in order and all it wrote is read."""
        self.process.terminate()
        status = self.process.wait(30)
        self._reader.join(30)
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as written:
            for text in written:
                self.lines.append(text)
                self._new.put(text)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_nothing_secret_is_written(tmp_path: Path) -> None:
    """Keys, hashes, tokens and the secret that signs them are in no log line, metric or error, not at DEBUG either.

    SIGHUP reads the keys anew, and ends nothing.
    """
    (key, line), wrong = new_key("a"), new_key("wrong")[0]
    secret = "only-the-service-knows-this-secret"  # noqa: S105 - of this test
    file = tmp_path / "keys"
    file.write_text(line)
    said: list[str] = []
    with Command(KEYS_FILE=str(file), TOKEN_SECRET=secret, LOG_LEVEL="debug") as command:
        server = LiveServer(command.line("Ready")["address"], [])
        bearers = [{"Authorization": f"Bearer {credential}"} for credential in (key, wrong, f"{wrong}.{wrong}")]
        answer = httpx.post(f"{server.url}/v1/tokens", headers=bearers[0]).json()
        token, subprotocol = answer["token"], answer["subprotocol"]
        for headers in bearers[1:]:
            said.append(json.dumps(refusal(server, **headers)[1]))
            said += [httpx.post(f"{server.url}{path}", headers=headers).text for path in ("/v1/tokens", "/v1/predict")]
        said.append(json.dumps(refusal(server, "timeconv.v1", f"timeconv.auth.{wrong}")[1]))
        upgrade(server, "timeconv.v1", subprotocol)
        said.append(_first_message(server.ws, "other", subprotocol))
        said.append(_first_message(f"{server.ws}?key={key}&token={token}", "timeconv.v1", subprotocol))
        file.write_text(f"{wrong}\n")
        command.process.send_signal(signal.SIGHUP)
        assert "line 1: not NAME" in command.line("The keys stay as they were")["message"]
        said.append(httpx.get(f"{server.url}/v1/models", headers=bearers[0]).text)
        said += [httpx.get(f"{server.url}{path}").text for path in ("/metrics", "/readyz", "/healthz", "/openapi.json")]
        assert command.stop() == 0
    everything = "\n".join([*said, *command.lines])
    assert '"key": "a"' in everything
    for hidden in (key, wrong, secret, token, token.partition(".")[2], line.partition("sha256:")[2]):
        assert hidden not in everything


def _first_message(url: str, *subprotocols: str) -> str:
    async def run() -> str:
        async with connect(url, subprotocols=list(subprotocols), compression=None) as socket:
            return str(await asyncio.wait_for(socket.recv(), 30))

    return asyncio.run(run())
