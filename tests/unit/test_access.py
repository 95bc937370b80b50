"""service.access: keys and tokens, with clocks of the test's own."""

import base64
import hashlib
import json
import logging
import os
from pathlib import Path

import pytest

from service.access import ANYONE, Access, ApiKey, KeyRing, Tokens, new_key, parse_keys
from service.errors import BadConfiguration, Unauthorized
from tests.fakes import ManualClock

LONG = "s" * 32


def ring(text: str = "", file: Path | None = None, clock: ManualClock | None = None) -> KeyRing:
    return KeyRing(text, file, clock or ManualClock())


def access(text: str, clock: ManualClock | None = None, secret: str = LONG) -> Access:
    return Access(ring(text), Tokens(secret, lifetime_s=60, wall_clock=clock or ManualClock()))


def test_a_new_key_is_let_in_by_its_line() -> None:
    """The line of a new key lets that key in, and holds no part of it; two keys differ."""
    key, line = new_key("alice")
    assert ring(line).find(key) == ApiKey("alice", hashlib.sha256(key.encode()).digest())
    assert key[3:] not in line
    assert new_key("alice")[0] != key


@pytest.mark.parametrize("name", ["", "a b", "a#b", "ä", "x" * 65, "a\n"])
def test_names_are_plain(name: str) -> None:
    """A name that would not fit into a line is refused."""
    with pytest.raises(BadConfiguration):
        new_key(name)


def test_limits_of_a_key() -> None:
    """A line may give its key limits; comments and empty lines say nothing, and `;` ends a line too."""
    digest = "0" * 64
    text = f"# ours\n\na sha256:{digest} sessions=3 frames_per_s=12.5 # the app\nb sha256:{digest};c sha256:{digest}"
    expected = [ApiKey("a", bytes(32), 3, 12.5), ApiKey("b", bytes(32)), ApiKey("c", bytes(32))]
    assert parse_keys(text, "keys") == expected


def test_an_admin() -> None:
    """A line makes its key an admin's by saying so, and not otherwise."""
    lines = [new_key("a", admin=True)[1], new_key("b")[1], f"{new_key('c')[1]} admin=false sessions=1"]
    assert [key.admin for key in parse_keys(";".join(lines), "keys")] == [True, False, False]


@pytest.mark.parametrize(
    "line",
    [
        "qwertz",
        "a sha256:12",
        "a md5:" + "0" * 64,
        "a sha256:" + "g" * 64,
        "a/b sha256:" + "0" * 64,
        *(
            f"a sha256:{'0' * 64} {limit}"
            for limit in ("sessions=0", "sessions=x", "sessions=1 sessions=2", "frames_per_s=0", "frames_per_s=inf")
        ),
        *(f"a sha256:{'0' * 64} {limit}" for limit in ("admin=yes", "admin", "admin=true admin=true")),
        *(f"a sha256:{'0' * 64} {limit}" for limit in ("frames_per_s=nan", "frames_per_s=-1", "speed=3", "sessions")),
    ],
)
def test_bad_lines(line: str) -> None:
    """A line that is none is refused by its number, and not shown: it may be a key put there by mistake."""
    with pytest.raises(BadConfiguration, match=r"^keys, line 2: not NAME") as refused:
        parse_keys(f"\n{line}", "keys")
    assert line not in str(refused.value)


def test_a_name_comes_once(tmp_path: Path) -> None:
    """Two keys of one name are refused, also when one is in the file and one in the variable."""
    line = new_key("a")[1]
    with pytest.raises(BadConfiguration, match="a comes twice"):
        parse_keys(f"{line}\n{line}", "keys")
    (tmp_path / "keys").write_text(line)
    with pytest.raises(BadConfiguration, match="comes both"):
        ring(line, tmp_path / "keys")


def test_no_keys_and_none_in_the_file(tmp_path: Path) -> None:
    """Without file and variable everyone enters; with a file that holds no key nobody does."""
    assert Access(ring(), Tokens("", lifetime_s=1, wall_clock=ManualClock())).by_key(None) is ANYONE
    (tmp_path / "keys").touch()
    closed = Access(ring(file=tmp_path / "keys"), Tokens("", lifetime_s=1, wall_clock=ManualClock()))
    for credential in (None, "", "tc_x"):
        with pytest.raises(Unauthorized):
            closed.by_key(credential)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file of keys that cannot be read stops the start."""
    with pytest.raises(BadConfiguration, match="none cannot be read: No such file"):
        ring(file=tmp_path / "none")


class TestReload:
    def test_a_changed_file(self, tmp_path: Path) -> None:
        """A key that is written into the file is let in within a second, and one that is taken out no longer."""
        file, clock = tmp_path / "keys", ManualClock()
        (old, old_line), (new, new_line) = new_key("old"), new_key("new")
        file.write_text(old_line)
        keys = ring(file=file, clock=clock)
        let_in = keys.find(old)
        assert let_in is not None
        assert keys.knows(let_in)
        file.write_text(f"# longer\n{new_line}")
        clock.advance(1)
        assert (keys.find(old), keys.knows(let_in)) == (None, False)
        assert keys.find(new) is not None

    def test_on_demand(self, tmp_path: Path) -> None:
        """Told to, it reads at once, though the file's size and times are as before."""
        file = tmp_path / "keys"
        (old, old_line), (new, new_line) = new_key("abc"), new_key("xyz")
        file.write_text(old_line)
        os.utime(file, ns=(0, 0))
        keys = ring(file=file)
        file.write_text(new_line)
        os.utime(file, ns=(0, 0))
        keys.reload()
        assert keys.find(old) is None
        assert keys.find(new) is not None

    @pytest.mark.parametrize("damage", ["gone", "bad line"])
    def test_a_damaged_file(self, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
        """A file that has become unreadable changes nothing, and is said in the log without its content."""
        file, clock = tmp_path / "keys", ManualClock()
        key, line = new_key("a")
        file.write_text(line)
        keys = ring(file=file, clock=clock)
        if damage == "gone":
            file.unlink()
        else:
            file.write_text(f"{key}\n")
        clock.advance(1)
        with caplog.at_level(logging.ERROR):
            assert keys.find(key) is not None
        assert "The keys stay as they were" in caplog.text
        assert key not in caplog.text


class TestTokens:
    def test_stands_for_its_key(self) -> None:
        """A token lets in who its key lets in, with that key's limits, but makes no tokens."""
        key, line = new_key("a")
        door = access(f"{line} sessions=2")
        token = door.tokens.issue(door.by_key(key))
        assert door.by_key_or_token(token) == door.by_key_or_token(key) == door.by_key(key)
        with pytest.raises(Unauthorized):
            door.by_key(token)

    def test_expires(self) -> None:
        """It is good until its lifetime is over."""
        clock = ManualClock()
        key, line = new_key("a")
        door = access(line, clock)
        token = door.tokens.issue(door.by_key(key))
        clock.advance(59.9)
        assert door.by_key_or_token(token).name == "a"
        clock.advance(0.2)
        with pytest.raises(Unauthorized):
            door.by_key_or_token(token)

    def test_another_key_of_the_same_name(self) -> None:
        """A token dies with its key, also when another gets the name."""
        key, line = new_key("a")
        door = access(line)
        token = door.tokens.issue(door.by_key(key))
        for text in (new_key("a")[1], new_key("b")[1]):
            with pytest.raises(Unauthorized):
                access(text).by_key_or_token(token)
        assert access(line).by_key_or_token(token).name == "a"

    def test_secrets(self) -> None:
        """Services of one secret take each other's tokens; without one each has its own."""
        key, line = new_key("a")
        for secret, expected in ((LONG, "a"), ("", None), ("t" * 32, None)):
            one, other = access(line, secret=LONG), access(line, secret=secret)
            found = other.tokens.holder(one.tokens.issue(one.by_key(key)), other.keys)
            assert (found.name if found else None) == expected

    def test_a_short_secret(self) -> None:
        """A secret that could be guessed stops the start, and is not shown."""
        with pytest.raises(BadConfiguration, match="at least 32") as refused:
            Tokens("hunter2", lifetime_s=1, wall_clock=ManualClock())
        assert "hunter2" not in str(refused.value)

    def test_every_changed_character(self) -> None:
        """A token in which any one character is another lets nobody in."""
        key, line = new_key("a")
        door = access(line)
        token = door.tokens.issue(door.by_key(key))
        payload, _, _ = token.partition(".")
        # The last character of a base64 part may hold bits that mean nothing.
        for at in (*range(len(payload) - 1), *range(len(payload) + 1, len(token) - 1)):
            forged = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            with pytest.raises(Unauthorized):
                door.by_key_or_token(forged)

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            b"[]",
            b"1",
            b'{"key":"a"}',
            b'{"key":1,"expires":1e9}',
            b'{"key":"a","expires":"x"}',
            b"[" * 9999,
            b'{"key":"a","expires":1' + b"0" * 400 + b"}",
        ],
    )
    def test_nonsense(self, said: bytes) -> None:
        """A token of nonsense is refused like any other that is not valid."""
        door = access(new_key("a")[1])
        payload = base64.urlsafe_b64encode(said).decode().rstrip("=")
        for token in (f"{payload}.", f"{payload}.AAAA", f"{payload}.AA.AA", ".", "é.é", "%.%", "A.A"):
            with pytest.raises(Unauthorized):
                door.by_key_or_token(token)

    def test_nobody_signs_for_anyone(self) -> None:
        """The payload is readable, and says the key's name and the end, nothing secret."""
        key, line = new_key("a")
        door = access(line, ManualClock())
        payload = door.tokens.issue(door.by_key(key)).partition(".")[0]
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert said.keys() == {"key", "expires"}
        assert said["key"] == "a"
