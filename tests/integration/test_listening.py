"""How it listens: TLS, and a port of its own for operations."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from service.settings import Settings
from tests.conftest import serving

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate as `make serve TLS=1` makes it, its key beside it."""
    if not (shutil.which("make") and shutil.which("openssl")):
        pytest.skip("needs make and openssl")
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    words = ["make", "--no-print-directory", f"CERTIFICATE={path}", str(path)]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)  # noqa: S603 - our own
    return path


def test_tls(certificate: Path, face_clip: list[bytes]) -> None:
    """With a certificate it speaks HTTPS and secure WebSockets, and nothing in the clear."""
    trusting = ssl.create_default_context(cafile=certificate)

    async def run(address: str) -> list[str]:
        async with connect(f"{address}?freshness=every", ssl=trusting, compression=None) as stream:
            for frame in face_clip:
                await stream.send(frame)
            await stream.send('{"type":"session.close"}')
            return [json.loads(text)["type"] async for text in stream]

    settings = Settings(port=0, tls_cert=certificate, tls_key=certificate.with_name("key.pem"), workers=1)
    with serving(settings) as server:
        url = server.url.replace("http", "https", 1)
        assert httpx.get(f"{url}/readyz", verify=trusting).json()["ready"]
        assert httpx.post(f"{url}/v1/tokens", headers={"Origin": url}, verify=trusting).status_code == 200
        said = asyncio.run(asyncio.wait_for(run(server.ws.replace("ws", "wss", 1)), 60))
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{server.url}/readyz")
    assert (said[0], said[-1], said.count("prediction")) == ("session.started", "session.closed", len(face_clip) - 4)


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half", "no TLS"]
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_handshake_that_is_never_whole(certificate: Path, sent: bytes, loop: str) -> None:
    """Who does not finish the TLS handshake in time is cut off; uvicorn's own patience is a minute."""
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    settings = Settings(
        port=0, tls_cert=certificate, tls_key=certificate.with_name("key.pem"), workers=1, handshake_timeout_ms=100
    )
    with serving(settings, factory) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as client:
            client.sendall(sent)
            with suppress(ConnectionError):
                while client.recv(4096):
                    pass


def test_a_handshake_has_a_place(certificate: Path) -> None:
    """Who is within the TLS handshake is counted as a connection, and no more once it is cut off."""
    trusting = ssl.create_default_context(cafile=certificate)
    settings = Settings(
        port=0,
        tls_cert=certificate,
        tls_key=certificate.with_name("key.pem"),
        workers=1,
        handshake_timeout_ms=500,
        max_connections=1,
    )
    with serving(settings) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as silent:
            with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as refused:
                assert refused.recv(1) == b""
            with suppress(ConnectionError):
                assert silent.recv(1) == b""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:  # The client may see its end before the service has its place back.
            with suppress(httpx.TransportError):
                assert httpx.get(f"{server.url.replace('http', 'https', 1)}/readyz", verify=trusting).json()["ready"]
                break
            assert time.monotonic() < deadline_s


def test_a_port_for_operations() -> None:
    """With a port of their own, health and metrics are there and only there, and nothing else is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ops_port = free.getsockname()[1]
    paths = ("/healthz", "/readyz", "/metrics", "/v1/models", "/")
    settings = Settings.model_validate({"port": 0, "ops_port": ops_port, "workers": 1})
    with serving(settings) as server:
        found = {
            url: [httpx.get(url + path).status_code for path in paths]
            for url in (server.url, f"http://127.0.0.1:{ops_port}")
        }
    assert list(found.values()) == [[404, 404, 404, 200, 200], [200, 200, 200, 404, 404]]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{ops_port}/healthz")


@pytest.fixture
def ops_port() -> int:
    """A port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_limits_of_the_port_for_operations(ops_port: int) -> None:
    """Headers are bounded there too, in bytes and in time, and refusals are counted."""
    settings = {"port": 0, "ops_port": ops_port, "workers": 1, "handshake_timeout_ms": 100, "max_header_bytes": 1024}
    with serving(Settings.model_validate(settings)):
        for sent, status in ((b"", b"408"), (b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 2000, b"431")):
            with socket.create_connection(("127.0.0.1", ops_port), timeout=PATIENCE_S) as client:
                client.sendall(sent)
                assert client.recv(4096).startswith(b"HTTP/1.1 " + status)
        text = httpx.get(f"http://127.0.0.1:{ops_port}/metrics").text
    assert 'timeconv_refused_total{code="handshake_timeout"} 1.0' in text
    assert 'timeconv_refused_total{code="header_too_large"} 1.0' in text


def test_connections_to_the_port_for_operations(ops_port: int) -> None:
    """There may be 64 of them, which are not of those that clients may have; one more gets 503."""
    settings = {"port": 0, "ops_port": ops_port, "workers": 1, "max_connections": 1}
    with ExitStack() as clients, serving(Settings.model_validate(settings)) as server:
        opened = [
            clients.enter_context(socket.create_connection(("127.0.0.1", ops_port), timeout=PATIENCE_S))
            for _ in range(65)
        ]
        assert opened[-1].recv(4096).startswith(b"HTTP/1.1 503")
        opened[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert opened[0].recv(4096).startswith(b"HTTP/1.1 200")
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
