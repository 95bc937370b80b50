"""Sessions that can be gone on with once their connection broke, kept for a moment so that their clients can do it."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from service.session import Session


class Holder(Protocol):
    """The connection that has a session."""

    @property
    def session(self) -> Session:
        """The session."""
        ...

    def give_up(self) -> None:
        """End at once: when this returns the session is closed and its places are free; another goes on with it."""
        ...


@dataclass(eq=False, slots=True)
class _Resumable:
    """A session that has a holder, or waits for one until the timer goes off, or is in an upgrade's hands."""

    session: Session
    owner: Hashable
    party: Hashable
    tokens: list[str]
    holder: Holder | None
    timer: asyncio.TimerHandle | None = None


CallLater = Callable[[float, Callable[..., Any], Any], asyncio.TimerHandle]


class Resumption:
    """Who may go on with which session: whoever of its owner's shows its token.

    The newest wins: who shows the token of a session that is connected (to a half-open socket, say) takes it from
    there. A connection gets a token of its own, and the one that it showed stays good until its client is `heard`:
    it may be gone before it reads the new one. So a session has two tokens at most, and one holder.

    Kept are as many as ``most_kept``; of the party that keeps most the one that broke first makes room, so that nobody
    drops what others keep by breaking much. Used on the event loop only.
    """

    def __init__(self, *, grace_s: float, most_kept: int, call_later: CallLater) -> None:
        """``call_later``: as the event loop's."""
        self._grace_s = grace_s
        self._most_kept = most_kept
        self._call_later = call_later
        self._by_token: dict[str, _Resumable] = {}
        self._by_holder: dict[Holder, _Resumable] = {}
        self._kept: dict[_Resumable, None] = {}  # As they broke: a dict is in the order of its insertions.

    @property
    def kept(self) -> int:
        """Sessions without a connection."""
        return len(self._kept)

    def hold(self, holder: Holder, owner: Hashable, *, party: Hashable, shown: str | None = None) -> str:
        """A token for a session that is connected; only ``owner`` may go on with it.

        ``party``: with whom it shares the room for what is kept. ``shown``: the token by which it was taken.
        """
        token = secrets.token_urlsafe(32)
        tokens = [token] if shown is None else [token, shown]
        entry = self._by_holder[holder] = _Resumable(holder.session, owner, party, tokens, holder)
        self._by_token.update(dict.fromkeys(tokens, entry))
        return token

    def heard(self, holder: Holder) -> None:
        """The client of a holder goes on, so it has its own token: the one it showed is worth nothing."""
        if (entry := self._by_holder.get(holder)) is not None:
            for shown in entry.tokens[1:]:
                del self._by_token[shown]
            del entry.tokens[1:]

    def release(self, holder: Holder) -> None:
        """The session has ended: its tokens are worth nothing."""
        if (entry := self._by_holder.pop(holder, None)) is not None:
            self._forget(entry)

    def keep(self, holder: Holder) -> None:
        """The connection of the session broke, and the session is closed; nothing if another connection took it."""
        if (entry := self._by_holder.pop(holder, None)) is not None:
            entry.holder = None
            self._keep(entry)

    @contextmanager
    def claimed(self, token: str | None, owner: Hashable) -> Iterator[None]:
        """Have the holder of the token's session give it up, and its places; keep it if nobody has taken it by the end.

        Nothing happens for a token that is not the owner's.
        """
        entry = None if token is None else self._recall(token, owner)
        try:
            yield
        finally:
            # Not what the token stands for by then: that may be in the hands of whoever has taken it since.
            if entry is not None and self._by_token.get(entry.tokens[0]) is entry and entry not in self._kept:
                self._keep(entry)

    def take(self, token: str, owner: Hashable) -> Session | None:
        """The session of the token, closed, to be gone on with; None if there is none, no more, or another's."""
        entry = self._recall(token, owner)
        if entry is None:
            return None
        self._forget(entry)
        return entry.session

    def _recall(self, token: str, owner: Hashable) -> _Resumable | None:
        """Take a session out of its holder's hands, or from where it is kept."""
        entry = self._by_token.get(token)
        if entry is None or entry.owner != owner:
            return None
        if (holder := entry.holder) is not None:
            entry.holder = None
            del self._by_holder[holder]  # First: who gives up releases what it holds.
            holder.give_up()
        self._stop_keeping(entry)
        return entry

    def _keep(self, entry: _Resumable) -> None:
        self._kept[entry] = None
        entry.timer = self._call_later(self._grace_s, self._forget, entry)
        if len(self._kept) > self._most_kept:
            ((most, _),) = Counter(kept.party for kept in self._kept).most_common(1)
            self._forget(next(kept for kept in self._kept if kept.party == most))

    def _stop_keeping(self, entry: _Resumable) -> None:
        self._kept.pop(entry, None)
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    def _forget(self, entry: _Resumable) -> None:
        self._stop_keeping(entry)
        for token in entry.tokens:
            del self._by_token[token]
