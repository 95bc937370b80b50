"""Who may enter: API keys, kept as hashes, and short-lived tokens for browsers. Pure but for one file that is read.

A key is 256 random bits, so a plain SHA-256 keeps it: there is nothing to guess. A line of the file of keys, or of
the variable, is

    NAME sha256:HEX [sessions=N] [frames_per_s=N] [admin=true]

with ``#`` before a comment. A token is ``payload.mac``, both base64url, the payload naming the key and when it expires.
Nothing here is logged but names of keys and numbers of lines.
"""

import base64
import hashlib
import hmac
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import AdminOnly, BadConfiguration, Unauthorized

log = logging.getLogger(__name__)

KEY_PREFIX = "tc_"
LEAST_SECRET_CHARACTERS = 32
_LOOK_AGAIN_S = 1.0
"""The file is looked at for changes at most so often."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_LINE = "NAME sha256:HEX [sessions=N] [frames_per_s=N] [admin=true]"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. A limit that is None is the service's own; an ``admin`` may change what serves."""

    name: str
    digest: bytes
    max_sessions: int | None = None
    max_frames_per_s: float | None = None
    admin: bool = False

    @property
    def identity(self) -> tuple[str, bytes]:
        """What stays as it is when limits change."""
        return self.name, self.digest


ANYONE = ApiKey("", b"")
"""Who comes where no key is asked for."""


def new_key(name: str, *, admin: bool = False) -> tuple[str, str]:
    """A new key, and its line for the file of keys.

    Raises:
        BadConfiguration: the name is not of letters, digits, ``-`` and ``_``.
    """
    if not _NAME.fullmatch(name):
        raise BadConfiguration("A key's name is up to 64 letters, digits, - and _")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, f"{name} sha256:{_digest(key).hex()}{' admin=true' if admin else ''}"


def parse_keys(text: str, source: str) -> list[ApiKey]:
    """The keys of a file or variable; ``;`` ends a line too.

    Raises:
        BadConfiguration: a line is none, or a name comes twice; the message says which line, never what is in it.
    """
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(re.split(r"[;\n]", text), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key = _parse_line(words)
        if key is None:
            raise BadConfiguration(f"{source}, line {number}: not {_LINE}")
        if key.name in keys:
            raise BadConfiguration(f"{source}, line {number}: the name {key.name} comes twice")
        keys[key.name] = key
    return list(keys.values())


def _parse_line(words: list[str]) -> ApiKey | None:
    name, digest, *limits = words if len(words) > 1 else [*words, ""]
    known = _HASH.fullmatch(digest)
    if not _NAME.fullmatch(name) or known is None:
        return None
    given = dict(limit.partition("=")[::2] for limit in limits)
    if len(given) < len(limits) or given.keys() - {"sessions", "frames_per_s", "admin"}:
        return None
    try:
        sessions = int(given["sessions"]) if "sessions" in given else None
        rate = float(given["frames_per_s"]) if "frames_per_s" in given else None
    except ValueError:
        return None
    if (sessions is not None and sessions < 1) or (rate is not None and not 0 < rate < math.inf):
        return None
    admin = given.get("admin", "false")
    if admin not in {"true", "false"}:
        return None
    return ApiKey(name, bytes.fromhex(known[1]), sessions, rate, admin == "true")


class KeyRing:
    """The keys in force: those of a variable and those of a file, which is read again when it has changed."""

    def __init__(self, text: str, file: Path | None, clock: Callable[[], float]) -> None:
        """``text``: the variable; ``clock``: seconds, monotonic.

        Raises:
            BadConfiguration: a line is no key, or the file cannot be read.
        """
        self._text = text
        self._file = file
        self._clock = clock
        self._looked_s = clock()
        self._seen = self._stamp()
        self._keys = self._read()

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for. With a file or variable that holds none, nobody may enter."""
        return self._file is None and not self._text

    def find(self, secret: str) -> ApiKey | None:
        """The key that is ``secret``. Every one is compared, each in constant time."""
        digest, found = _digest(secret), None
        for key in self._current().values():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def named(self, name: str) -> ApiKey | None:
        """The key of a name."""
        return self._current().get(name)

    def knows(self, key: ApiKey) -> bool:
        """Whether a key that was let in would still be."""
        current = self._current().get(key.name)
        return self.is_open or (current is not None and current.digest == key.digest)

    def reload(self) -> None:
        """Read the file anew, now. One that is damaged is said in the log and changes nothing."""
        self._seen = self._stamp()
        try:
            self._keys = self._read()
        except BadConfiguration as error:
            log.error("The keys stay as they were: %s", error)  # noqa: TRY400 - whose file it is needs no traceback
        else:
            log.info("Keys read", extra={"keys": len(self._keys)})

    def _current(self) -> Mapping[str, ApiKey]:
        if self._file is not None and (now_s := self._clock()) - self._looked_s >= _LOOK_AGAIN_S:
            self._looked_s = now_s
            if self._stamp() != self._seen:
                self.reload()
        return self._keys

    def _stamp(self) -> tuple[int, int, int] | None:
        """What changes when the file does."""
        try:
            stat = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if stat is None else (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _read(self) -> dict[str, ApiKey]:
        return {key.name: key for key in _distinct(self._sources())}

    def _sources(self) -> Iterator[ApiKey]:
        yield from parse_keys(self._text, "TIMECONV_KEYS")
        if self._file is None:
            return
        try:
            text = self._file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise BadConfiguration(f"The file of keys {self._file} cannot be read: {reason}") from error
        yield from parse_keys(text, str(self._file))


def _distinct(keys: Iterable[ApiKey]) -> Iterator[ApiKey]:
    seen: set[str] = set()
    for key in keys:
        if key.name in seen:
            raise BadConfiguration(f"The name {key.name} comes both in TIMECONV_KEYS and in the file of keys")
        seen.add(key.name)
        yield key


class Tokens:
    """Signs and checks tokens. A token dies with its key, and with this process unless the secret is given."""

    def __init__(self, secret: str, *, lifetime_s: float, wall_clock: Callable[[], float]) -> None:
        """``wall_clock``: seconds since 1970, which services that share a secret share too.

        Raises:
            BadConfiguration: the secret is too short to be one.
        """
        if secret and len(secret) < LEAST_SECRET_CHARACTERS:
            raise BadConfiguration(f"TIMECONV_TOKEN_SECRET needs at least {LEAST_SECRET_CHARACTERS} characters")
        self._secret = secret.encode() or secrets.token_bytes(32)
        self.lifetime_s = lifetime_s
        self._wall_clock = wall_clock

    def issue(self, key: ApiKey) -> str:
        """A token that stands for ``key`` until it expires."""
        payload = json.dumps({"key": key.name, "expires": self._wall_clock() + self.lifetime_s}).encode()
        return f"{_encode(payload)}.{_encode(self._mac(payload, key))}"

    def holder(self, token: str, keys: KeyRing) -> ApiKey | None:
        """The key that a token stands for; None if it is forged or expired, or its key is no more."""
        try:
            payload, mac = (_decode(part) for part in token.split("."))
            said = json.loads(payload)
            name, expires_s = said["key"], float(said["expires"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        key = keys.named(name) if isinstance(name, str) else None
        if key is None or not hmac.compare_digest(mac, self._mac(payload, key)):
            return None
        return key if self._wall_clock() < expires_s else None

    def _mac(self, payload: bytes, key: ApiKey) -> bytes:
        """Over the key's digest too: a new key under an old name does not take over its tokens."""
        return hmac.digest(self._secret, b"timeconv.token.1\0" + key.digest + payload, "sha256")


class Access:
    """Takes a caller for whom the credentials say it is."""

    def __init__(self, keys: KeyRing, tokens: Tokens) -> None:
        """Both as the settings ask for."""
        self.keys = keys
        self.tokens = tokens

    def by_key(self, credential: str | None) -> ApiKey:
        """Whose API key ``credential`` is.

        Raises:
            Unauthorized: it is none.
        """
        return self._found(credential, self.keys.find)

    def by_key_or_token(self, credential: str | None) -> ApiKey:
        """Whose API key or token ``credential`` is; only tokens hold a dot.

        Raises:
            Unauthorized: it is neither.
        """
        return self._found(credential, lambda text: self._holder(text) if "." in text else self.keys.find(text))

    def by_admin_key(self, credential: str | None) -> ApiKey:
        """Whose API key ``credential`` is, if it is an admin's. A service without keys has no admin.

        Raises:
            Unauthorized: it is neither key nor token.
            AdminOnly: no admin's, or only a token of one, or no keys are asked for at all.
        """
        key = self.by_key_or_token(credential)
        if not key.admin or self.keys.find(credential or "") is None:
            why = "this service has no keys" if self.keys.is_open else "tokens and other keys do not"
            raise AdminOnly(f"Only a key with admin=true may do this; {why}")
        return key

    def _holder(self, token: str) -> ApiKey | None:
        return self.tokens.holder(token, self.keys)

    def _found(self, credential: str | None, find: Callable[[str], ApiKey | None]) -> ApiKey:
        if self.keys.is_open:
            return ANYONE
        if credential is None:
            raise Unauthorized("An API key is needed, as Authorization: Bearer KEY")
        key = find(credential)
        if key is None:
            raise Unauthorized("The key or token is not valid, or no longer")
        return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
