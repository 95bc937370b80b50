"""A TCP proxy that a test can cut, freeze and point elsewhere."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on between whoever connects and ``target``; its methods may be called from any thread."""

    def __init__(self, target: str) -> None:
        """``target``: the address of a service."""
        self.url = ""
        self.target = target
        self._loop = asyncio.new_event_loop()
        self._transports: set[asyncio.Transport] = set()

    def cut(self) -> None:
        """Break all connections, without a word."""
        self._call(lambda: [transport.abort() for transport in tuple(self._transports)])

    def freeze(self) -> None:
        """Pass nothing more on, on the connections there are; they stay open."""
        self._call(lambda: [transport.pause_reading() for transport in self._transports])

    def _call(self, function: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        done.wait()

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await self._loop.create_server(lambda: _Inward(self), "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await stop.wait()
        for transport in tuple(self._transports):
            transport.abort()

    async def _connect(self, inward: "_Inward") -> None:
        target = urlsplit(self.target)
        try:
            await self._loop.create_connection(lambda: _Outward(self, inward), target.hostname, target.port)
        except OSError:
            inward.transport.abort()


class _End(asyncio.Protocol):
    """One side of a connection."""

    transport: asyncio.Transport
    other: "_End | None" = None

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy._transports.add(transport)

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.proxy._transports.discard(self.transport)
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.close()


class _Inward(_End):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self.connecting = self.proxy._loop.create_task(self.proxy._connect(self))


class _Outward(_End):
    def __init__(self, proxy: Proxy, other: _Inward) -> None:
        super().__init__(proxy)
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.other is not None
        self.other.other = self
        self.other.transport.resume_reading()


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy in a thread, until the block ends."""
    passing = Proxy(target)
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: passing._loop.run_until_complete(passing._serve(ready, stop)))
    thread.start()
    ready.wait()
    try:
        yield passing
    finally:
        passing._loop.call_soon_threadsafe(stop.set)
        thread.join()
        passing._loop.close()
