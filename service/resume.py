"""Sessions whose connection broke, kept for a moment so that their clients can go on with them."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from service.session import Session


class Holder(Protocol):
    """The connection that has a session."""

    @property
    def session(self) -> Session:
        """The session."""
        ...

    def give_up(self) -> None:
        """End at once: the session is closed when this returns, since another connection goes on with it."""
        ...


CallLater = Callable[[float, Callable[..., Any], str], asyncio.TimerHandle]


class Resumption:
    """Who may go on with which session: whoever shows its token, once.

    A token names one session for as long as its connection lasts, and after a break for a grace; taking the session up
    uses it up. So of two connections that show the same token only the first gets the session, and one that shows the
    token of a session that is still connected (to a half-open socket, say) takes it from there. Kept are as many as
    ``most_kept``; the one that broke first makes room. Used on the event loop only.
    """

    def __init__(self, *, grace_s: float, most_kept: int, call_later: CallLater) -> None:
        """``call_later``: as the event loop's."""
        self._grace_s = grace_s
        self._most_kept = most_kept
        self._call_later = call_later
        self._held: dict[str, Holder] = {}
        self._kept: dict[str, tuple[Session, asyncio.TimerHandle]] = {}

    @property
    def kept(self) -> int:
        """Sessions without a connection."""
        return len(self._kept)

    def hold(self, holder: Holder) -> str:
        """A token for a session that is connected."""
        token = secrets.token_urlsafe(32)
        self._held[token] = holder
        return token

    def release(self, token: str | None) -> None:
        """The session has ended: its token is worth nothing."""
        if token is not None:
            self._held.pop(token, None)

    def keep(self, token: str | None) -> None:
        """The connection of the session broke, and the session is closed; nothing if another connection took it."""
        if token is None or (holder := self._held.pop(token, None)) is None:
            return
        if len(self._kept) >= self._most_kept:
            self._drop(next(iter(self._kept)))
        self._kept[token] = holder.session, self._call_later(self._grace_s, self._drop, token)

    def take(self, token: str) -> Session | None:
        """The session of the token, closed, to be gone on with; None if there is none, or no more."""
        if (holder := self._held.pop(token, None)) is not None:
            holder.give_up()
            return holder.session
        return self._drop(token)

    def _drop(self, token: str) -> Session | None:
        session, timer = self._kept.pop(token, (None, None))
        if timer is not None:
            timer.cancel()
        return session
