"""Sessions whose connection broke, kept for a moment so that their clients can go on with them."""

import asyncio
import secrets
from collections.abc import Callable, Hashable
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
        self._held: dict[str, tuple[Holder, Hashable]] = {}
        self._kept: dict[str, tuple[Session, Hashable, asyncio.TimerHandle]] = {}

    @property
    def kept(self) -> int:
        """Sessions without a connection."""
        return len(self._kept)

    def hold(self, holder: Holder, owner: Hashable) -> str:
        """A token for a session that is connected; only ``owner`` may go on with it."""
        token = secrets.token_urlsafe(32)
        self._held[token] = holder, owner
        return token

    def release(self, token: str | None) -> None:
        """The session has ended: its token is worth nothing."""
        if token is not None:
            self._held.pop(token, None)

    def keep(self, token: str | None) -> None:
        """The connection of the session broke, and the session is closed; nothing if another connection took it."""
        if token is None or token not in self._held:
            return
        holder, owner = self._held.pop(token)
        if len(self._kept) >= self._most_kept:
            self._drop(next(iter(self._kept)))
        self._kept[token] = holder.session, owner, self._call_later(self._grace_s, self._drop, token)

    def take(self, token: str, owner: Hashable) -> Session | None:
        """The session of the token, closed, to be gone on with; None if there is none, no more, or another's."""
        if token in self._held and self._held[token][1] == owner:
            holder, _ = self._held.pop(token)
            holder.give_up()
            return holder.session
        if token in self._kept and self._kept[token][1] == owner:
            return self._drop(token)
        return None

    def _drop(self, token: str) -> Session | None:
        session, _, timer = self._kept.pop(token, (None, None, None))
        if timer is not None:
            timer.cancel()
        return session
