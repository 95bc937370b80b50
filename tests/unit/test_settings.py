import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import annotated_types
import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from service.cli import app
from service.settings import Settings, shipped_model_store, unknown_variables, usable_cores

REPOSITORY = Path(__file__).parents[2]
FIELDS = Settings.model_fields

COMPUTED_DEFAULTS = {"model_store": "the one that is shipped", "workers": "one per usable core"}
COMPUTED_DEFAULTS |= dict.fromkeys(("keys", "token_secret", "allowed_origins", "trusted_proxies"), "none")
OTHER_VALUES = {
    "host": "an address",
    "keys_file": "a file",
    "keys": "lines of keys",
    "allow_anyone": "`true`, `false`",
    "token_secret": "32 characters or more",
    "allowed_origins": "as `https://example.org`",
    "trusted_proxies": "addresses or networks",
    "tls_cert": "a file",
    "tls_key": "a file",
    "ops_host": "an address",
    "model_store": "a folder",
    "model": "a name, or `name@version`",
    "engine_cache": "a folder",
    "yunet_file": "a file",
}
BOUNDED = sorted(name for name, field in FIELDS.items() if field.metadata)
CHOICES = sorted(name for name, field in FIELDS.items() if name not in OTHER_VALUES and not field.metadata)


def bounds(field: FieldInfo) -> tuple[float, float]:
    """The least and the largest value, as far as they may be taken themselves."""
    least = next(item for item in field.metadata if isinstance(item, annotated_types.Ge | annotated_types.Gt))
    largest = next(item for item in field.metadata if isinstance(item, annotated_types.Le))
    assert isinstance(largest.le, int | float)
    value = least.ge if isinstance(least, annotated_types.Ge) else least.gt
    assert isinstance(value, int | float)
    return value, largest.le


def written(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def values(name: str, field: FieldInfo) -> str:
    """The column of bounds."""
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if not field.metadata:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    least, largest = bounds(field)
    above = any(isinstance(item, annotated_types.Gt) for item in field.metadata)
    return f"{'over ' if above else ''}{written(least)} to {written(largest)}"


def row(name: str, field: FieldInfo) -> str:
    """The line of the table in docs/configuration.md."""
    default = COMPUTED_DEFAULTS.get(name) or ("none" if field.default is None else f"`{field.default}`")
    return f"| `TIMECONV_{name.upper()}` | {default} | {values(name, field)} | {field.description} |"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours is set."""
    for variable in [name for name in os.environ if name.upper().startswith("TIMECONV_")]:
        monkeypatch.delenv(variable)


@pytest.fixture(scope="module")
def documented() -> list[str]:
    """The rows of the table."""
    lines = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| `TIMECONV_")]


class TestDocumentation:
    @pytest.mark.parametrize("name", FIELDS)
    def test_setting(self, name: str, documented: list[str]) -> None:
        """Each setting has its row in docs/configuration.md: variable, default, bounds and meaning."""
        assert row(name, FIELDS[name]) in documented

    def test_no_other(self, documented: list[str]) -> None:
        """The page names no variable that does not exist, and each once."""
        expected = [f"| `TIMECONV_{name.upper()}` " for name in FIELDS]
        assert sorted(expected) == sorted(line.partition("` ")[0] + "` " for line in documented)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("variable", "text", "expected"),
        [
            ("TIMECONV_HOST", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - nothing listens there
            ("TIMECONV_PORT", "0", 0),
            ("TIMECONV_MODEL_STORE", "/models", Path("/models")),
            ("TIMECONV_DEVICE", "cpu", "cpu"),
            ("TIMECONV_DETECTOR", "haar", "haar"),
            ("TIMECONV_YUNET_FILE", "yunet.onnx", Path("yunet.onnx")),
            ("TIMECONV_KEYS_FILE", "keys.txt", Path("keys.txt")),
            ("TIMECONV_ALLOW_ANYONE", "true", True),
            ("TIMECONV_WORKERS", "3", 3),
            ("TIMECONV_BATCH_BUDGET_MS", "2.5", 2.5),
            ("TIMECONV_LOG_FORMAT", "json", "json"),
            ("timeconv_max_sessions", "7", 7),
        ],
    )
    def test_variable(self, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: object) -> None:
        """A variable sets its setting, in the setting's own type."""
        monkeypatch.setenv(variable, text)
        name = variable.lower().removeprefix("timeconv_")
        assert expected == getattr(Settings(), name)

    def test_given_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the command line gives is stronger than the environment."""
        monkeypatch.setenv("TIMECONV_PORT", "9000")
        assert Settings(port=9001).port == 9001

    def test_bad_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable out of bounds stops the start; it is not replaced by the default."""
        monkeypatch.setenv("TIMECONV_PORT", "99999")
        with pytest.raises(ValidationError, match="port"):
            Settings()

    def test_others_are_none_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Variables without the prefix set nothing."""
        monkeypatch.setenv("PORT", "9000")
        monkeypatch.setenv("HOST", "example.org")
        assert (Settings().port, Settings().host) == (8000, "127.0.0.1")


def test_a_misspelt_variable_is_found() -> None:
    """A name that looks like a setting and is none is reported, in any case; others are not ours to judge."""
    environment = {
        "TIMECONV_PORT": "1",
        "TIMECONV_KEY": "tc_x",
        "timeconv_host": "x",
        "TIMECONV_MAX_SESSION": "5",
        "PATH": "/bin",
    }
    assert unknown_variables(environment) == ["TIMECONV_MAX_SESSION"]


class TestBounds:
    @pytest.mark.parametrize("name", BOUNDED)
    def test_at_the_bounds(self, name: str) -> None:
        """The bounds themselves are taken, and the default lies within them."""
        least, largest = bounds(FIELDS[name])
        if not any(isinstance(item, annotated_types.Gt) for item in FIELDS[name].metadata):
            assert least == getattr(Settings(**{name: least}), name)
        assert largest == getattr(Settings(**{name: largest}), name)
        assert least <= getattr(Settings(), name) <= largest

    @pytest.mark.parametrize("name", BOUNDED)
    @pytest.mark.parametrize("value", ["below", "above", "nan", "inf", "", "many", None])
    def test_beyond(self, name: str, value: object) -> None:
        """What is beyond a bound, or no number, is refused."""
        least, largest = bounds(FIELDS[name])
        given = {"below": least - 1, "above": largest + 1}.get(value, value) if isinstance(value, str) else value
        with pytest.raises(ValidationError):
            Settings(**{name: given})

    @pytest.mark.parametrize("name", CHOICES)
    def test_choices(self, name: str) -> None:
        """Each choice is taken, anything else is refused."""
        for choice in get_args(FIELDS[name].annotation):
            assert choice == getattr(Settings(**{name: choice}), name)
        for other in ("", "other", None, 1):
            with pytest.raises(ValidationError):
                Settings(**{name: other})

    def test_every_number_is_bounded(self) -> None:
        """No number is without a least and a largest value."""
        numbers = {name for name, field in FIELDS.items() if field.annotation in (int, float)}
        assert numbers == set(BOUNDED)

    def test_zero_budget(self) -> None:
        """A batch cannot be asked to take no time."""
        with pytest.raises(ValidationError):
            Settings(batch_budget_ms=0)

    def test_unknown(self) -> None:
        """A setting that does not exist is refused."""
        with pytest.raises(ValidationError):
            Settings(max_session=5)


def test_frozen() -> None:
    """Settings cannot be changed once they are read."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.annotation in (int, float)])
def test_unit_in_the_name(name: str) -> None:
    """A number is a count, a port or a share, or has its unit in its name."""
    counts = {"port", "workers", "max_sessions", "max_frame_pixels", "max_batch", "max_waiting_windows"}
    counts |= {"max_sessions_per_address", "max_connections", "max_connections_per_address"}
    counts |= {"max_waiting_predictions", "max_waiting_predictions_per_caller", "detect_every_frames"}
    assert name.endswith(("_ms", "_bytes", "_mb", "_per_s", "_port", "_share")) or name in counts


def test_shipped_model_store() -> None:
    """The default model store is there and holds models."""
    assert list(shipped_model_store().glob("*/*/manifest.json"))
    assert shipped_model_store() == Settings().model_store


def test_usable_cores() -> None:
    """There is at least one core, and as many workers as there are cores."""
    assert usable_cores() >= 1
    assert usable_cores() == Settings().workers


def test_nothing_is_read_at_import(tmp_path: Path) -> None:
    """A bad variable in the environment does not keep the modules of the service from being imported."""
    code = "import service.settings, service.app, service.cli"
    environment: dict[str, Any] = {"TIMECONV_PORT": "none", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)  # noqa: S603 - our own
    assert (done.returncode, done.stderr) == (0, "")


class TestSites:
    @pytest.mark.parametrize(
        "text",
        ["", "*", "https://a.example", "http://localhost:3000, https://[2001:db8::1]:8443/", "chrome-extension://abc"],
    )
    def test_what_browsers_send(self, text: str) -> None:
        """A site is taken in the form in which browsers name it; a slash at its end is left off."""
        assert Settings(allowed_origins=text).allowed_origins == text.replace(" ", "").rstrip("/")

    @pytest.mark.parametrize(
        "word",
        [
            "a.example",
            "HTTPS://a.example",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:0443",
            "https://a.example:70000",
            "https://a.example/page",
            "https://*.example",
            "https://bücher.example",
            "null",
        ],
    )
    def test_what_they_never_send(self, word: str) -> None:
        """What no browser sends would let nobody in, and stops the start."""
        with pytest.raises(ValidationError, match="no site as browsers name it"):
            Settings(allowed_origins=f"https://b.example, {word}")


class TestProxies:
    @pytest.mark.parametrize("text", ["", "192.0.2.1", "10.0.0.0/8, 2001:db8::/32", "::1"])
    def test_addresses_and_networks(self, text: str) -> None:
        """Addresses and networks are taken."""
        assert Settings(trusted_proxies=text).trusted_proxies == text.replace(" ", "")

    @pytest.mark.parametrize("word", ["*", "10.0.0.5/8", "10.0.0.0/33", "nonsense", "localhost", "10.0.0"])
    def test_others(self, word: str) -> None:
        """What would be believed of nobody, or of everybody, stops the start."""
        with pytest.raises(ValidationError, match="neither an address nor a network"):
            Settings(trusted_proxies=f"192.0.2.1, {word}")


@pytest.mark.parametrize(("name", "value"), [("TRUSTED_PROXIES", "10.0.0.5/8"), ("ALLOWED_ORIGINS", "a.example")])
def test_the_command_says_which(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeconv serve` does not start with either, and says which variable and value it is."""
    monkeypatch.setenv(f"TIMECONV_{name}", value)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert f"TIMECONV_{name}" in result.output
    assert value in result.output
