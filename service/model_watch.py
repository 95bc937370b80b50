"""New versions of models, taken into use while sessions go on."""

import asyncio
import logging
from typing import Protocol

from service.errors import TimeConvError
from service.inference.artifact import Stamp
from service.inference.models import LoadedNetwork
from service.sessions import Sessions

log = logging.getLogger(__name__)


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

    def renew(self, name: str) -> LoadedNetwork:
        """Have the newest version serve a name."""
        ...


class SwapObserver(Protocol):
    """Who wants to know of versions that take over; called on a thread."""

    def model_swapped(self, *, swapped: bool) -> None:
        """A version took over, or could not."""
        ...


class ModelWatch:
    """Has the newest version in the store serve a name, once its files have come to rest.

    The old version serves until the new one is checked and warmed, and goes on if that fails. A session goes over
    between two frames; frames received before are answered by the old one, which stays loaded.
    """

    def __init__(self, networks: Renewable, sessions: Sessions, observer: SwapObserver) -> None:
        """Nothing is looked at before `check`."""
        self._networks = networks
        self._sessions = sessions
        self._observer = observer
        self._seen: dict[str, Stamp] = {}
        self._done: dict[str, Stamp] = {}

    async def run(self, interval_s: float) -> None:
        """Look every ``interval_s``, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.check()
            except Exception:
                # The edge of the task: the store is somebody else's, and the next look may find it mended.
                log.exception("The model store could not be looked through")

    async def check(self) -> None:
        """Look once. Models are read and warmed beside the event loop; sessions then go over on it."""
        await asyncio.to_thread(self._look)
        for connection in list(self._sessions):
            connection.renew()

    def _look(self) -> None:
        for name in self._networks.followed:
            stamp = self._networks.stamp(name)
            is_at_rest = self._seen.get(name) == stamp
            self._seen[name] = stamp
            if is_at_rest and self._done.get(name) != stamp:
                self._done[name] = stamp
                self._renew(name)

    def _renew(self, name: str) -> None:
        old = self._networks.ready(name)
        assert old is not None
        try:
            new = self._networks.renew(name)
        except Exception as error:
            unexpected = None if isinstance(error, TimeConvError) else error
            log.error("%s stays, for its newest version cannot be used: %s", old.lane, error, exc_info=unexpected)  # noqa: TRY400 - see above
            self._observer.model_swapped(swapped=False)
            return
        if new is not old:
            log.info("%s takes over from %s", new.lane, old.lane)
            self._observer.model_swapped(swapped=True)
