"""``timeconv key``, and what the command line says of settings that are secret."""

import pytest
import typer
from typer.testing import CliRunner

from service.access import KeyRing
from service.cli import app, read_settings
from service.streaming import StreamRequest
from tests.fakes import ManualClock


@pytest.mark.parametrize("admin", [False, True])
def test_a_key_and_its_line(admin: bool) -> None:  # noqa: FBT001 - pytest's
    """The command prints a key and the line that lets it in, as an admin if it is to be one."""
    answer = CliRunner().invoke(app, ["key", "alice", *["--admin"][: int(admin)]])
    key, line = (text.strip() for text in answer.output.splitlines() if text.startswith("  "))
    found = KeyRing(line, None, ManualClock()).find(key)
    assert found is not None
    assert (found.name, found.admin) == ("alice", admin)


@pytest.mark.parametrize("name", ["keys", "token_secret"])
def test_a_bad_secret_is_not_shown(name: str) -> None:
    """A secret setting that is refused is named and not shown; another's value is."""
    with pytest.raises(typer.BadParameter) as refused:
        read_settings(**{name: ["hunter2"]})
    assert f"TIMECONV_{name.upper()}" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(typer.BadParameter, match="not 99999"):
        read_settings(port=99999)


def test_the_key_of_a_stream_is_not_shown() -> None:
    """What is asked of a clip can be printed without its key."""
    assert "tc_x" not in repr(StreamRequest(clip="0", key="tc_x"))
