"""service.serve: what is done before anything is served."""

import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.errors import BadConfiguration
from service.settings import Settings

resource = pytest.importorskip("resource", reason="there is none for Windows")

from service.gate import Gate  # noqa: E402 - after the skip
from service.serve import allow_files, check_entry, uvicorn_config  # noqa: E402 - after the skip


@pytest.mark.parametrize(
    ("limits", "wanted", "expected"),
    [
        ((1024, 4096), 2000, (2000, 4096)),
        ((1024, 4096), 9000, (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), 9000, (9000, resource.RLIM_INFINITY)),
        ((1024, 4096), 1000, None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 9000, None),
    ],
)
def test_the_limit_on_open_files_is_raised(
    limits: tuple[int, int],
    wanted: int,
    expected: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The limit becomes what the sessions need, or the most there may be, which is then said; it is never lowered."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: seen.append(new))
    with caplog.at_level(logging.WARNING):
        allow_files(wanted)
    assert seen == ([] if expected is None else [expected])
    assert bool(caplog.records) == (expected is not None and expected[0] < wanted)


KEYS = SecretStr("a sha256:" + "0" * 64)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_the_loopback_needs_no_key(host: str) -> None:
    """Without a key it listens where only this machine comes from."""
    check_entry(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104 - nothing listens
def test_other_addresses_need_keys(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """On any other address it does not start without keys, unless told aloud to, and says so then."""
    with pytest.raises(BadConfiguration, match=r"loopback only.*TIMECONV_KEYS_FILE.*TIMECONV_ALLOW_ANYONE"):
        check_entry(Settings(host=host))
    check_entry(Settings(host=host, keys=KEYS))
    check_entry(Settings(host=host, keys_file=Path("keys")))
    assert caplog.records == []
    check_entry(Settings(host=host, allow_anyone=True))
    assert "Everyone who reaches" in caplog.text


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    """Half of TLS, or files that are none, stop the start: nothing is served in the clear instead."""
    with pytest.raises(BadConfiguration, match="go together"):
        check_entry(Settings(tls_cert=tmp_path / "cert.pem"))
    for text in (None, "no certificate"):
        if text is not None:
            (tmp_path / "cert.pem").write_text(text)
        with pytest.raises(BadConfiguration, match=r"No TLS with .*cert.pem"):
            check_entry(Settings(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem"))


def test_proxies() -> None:
    """No proxy is believed unless it is named."""
    assert not uvicorn_config(_nothing, Settings(), Gate(Settings())).proxy_headers
    config = uvicorn_config(_nothing, Settings(trusted_proxies="10.0.0.0/8, 192.0.2.1"), Gate(Settings()))
    assert (config.proxy_headers, config.forwarded_allow_ips) == (True, ["10.0.0.0/8", "192.0.2.1"])


async def _nothing(*_: object) -> None:
    """An application that does nothing."""
