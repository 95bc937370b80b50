"""New versions of models, taken into use while sessions go on."""

import asyncio
import contextlib
import logging
from typing import Protocol

from service.aside import Aside
from service.errors import TimeConvError
from service.inference.artifact import Stamp
from service.inference.models import LoadedNetwork
from service.sessions import Sessions

log = logging.getLogger(__name__)

_TIDY_S = 5.0


class Renewable(Protocol):
    """The networks that serve; see `Networks`."""

    @property
    def followed(self) -> list[str]:
        """Names that were asked for without a version."""
        ...

    def stamp(self, name: str) -> Stamp:
        """What the files of a name look like from outside."""
        ...

    def ready(self, spec: str) -> LoadedNetwork | None:
        """The network that serves a spec."""
        ...

    def renew(self, spec: str) -> LoadedNetwork:
        """Have the newest version serve a name."""
        ...

    def unload(self) -> None:
        """Let go of networks that nobody uses any more."""
        ...


class SwapObserver(Protocol):
    """Who wants to know of versions that take over; called on a thread."""

    def model_swapped(self, *, swapped: bool) -> None:
        """A version took over, or could not."""
        ...


class ModelWatch:
    """Has the newest version in the store serve a name, once its files have come to rest, or an operator says so.

    The old version serves until the new one is checked and warmed, and goes on if that fails. A session goes over
    between two frames; frames received before are answered by the old one, which is unloaded once nobody uses it.
    """

    def __init__(self, networks: Renewable, sessions: Sessions, observer: SwapObserver, loading: Aside) -> None:
        """Nothing is looked at before `check`; ``loading`` is where networks are loaded, one after the other."""
        self._networks = networks
        self._sessions = sessions
        self._observer = observer
        self._seen: dict[str, Stamp] = {}
        self._done: dict[str, Stamp] = {}
        self._loading = loading
        self._unusable: set[str] = set()

    @property
    def unusable(self) -> int:
        """How many names have a newest version that cannot be used: the one before serves, until a restart fails."""
        return len(self._unusable)

    async def run(self, interval_s: float) -> None:
        """Look every ``interval_s``, for ever; with 0 never look, but unload what has come out of use."""
        while True:
            await asyncio.sleep(interval_s or _TIDY_S)
            try:
                await (self.check() if interval_s else self.tidy())
            except Exception:
                # The edge of the task: the store is somebody else's, and the next look may find it mended.
                log.exception("The model store could not be looked through")

    async def check(self) -> None:
        """Look once. Models are read and warmed beside the event loop; sessions then go over on it."""
        await self._loading.run(self._look)
        await self.tidy()

    async def tidy(self) -> None:
        """Have sessions go over that have not yet, and unload what nobody uses any more."""
        self._hand_over()
        await self._loading.run(self._networks.unload)

    async def load(self, spec: str) -> tuple[LoadedNetwork | None, LoadedNetwork]:
        """Have the newest version serve a name now, or load a ``name@version``: what served before, and what does.

        Raises:
            TimeConvError: as `Networks.load`; what served before goes on to.
        """
        swap = await self._loading.run(self._swap, spec)
        self._hand_over()
        return swap

    def _hand_over(self) -> None:
        for connection in list(self._sessions):
            connection.renew()

    def _look(self) -> None:
        for name in self._networks.followed:
            stamp = self._networks.stamp(name)
            is_at_rest = self._seen.get(name) == stamp
            self._seen[name] = stamp
            if is_at_rest and self._done.get(name) != stamp:
                self._done[name] = stamp
                with contextlib.suppress(Exception):  # It has been said, and other names have newer versions too.
                    self._swap(name)

    def _swap(self, spec: str) -> tuple[LoadedNetwork | None, LoadedNetwork]:
        old = self._networks.ready(spec)
        try:
            new = self._networks.renew(spec)
        except Exception as error:
            if old is not None:
                self._unusable.add(spec)
                unexpected = None if isinstance(error, TimeConvError) else error
                log.error("%s stays, for its newest version cannot be used: %s", old.lane, error, exc_info=unexpected)  # noqa: TRY400 - see above
                self._observer.model_swapped(swapped=False)
            raise
        self._unusable.discard(spec)
        if old is not None and new is not old:
            log.info("%s takes over from %s", new.lane, old.lane)
            self._observer.model_swapped(swapped=True)
        return old, new
