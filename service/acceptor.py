"""Lets connections in, a few in each turn of the event loop.

Servers of asyncio and uvloop accept until nobody waits any more. A client that connects as fast as that keeps the loop
from all others: at 8,000 connections a second from one address, each refused, a neighbour's 99th percentile rose from 9
to 60 ms. Here who may have no connection is refused before it costs a transport, a parser or a TLS handshake.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from service.gate import Gate
from service.http import HttpProtocol, answer_to

log = logging.getLogger(__name__)

_IN_A_TURN = 8
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OUT_OF_FILES_S = 1.0


class Acceptor:
    """Accepts the connections of a listening socket; to uvicorn it is an `asyncio.Server`."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[str], HttpProtocol],
        gate: Gate,
        *,
        tls: ssl.SSLContext | None,
    ) -> None:
        """``protocol(address)`` makes a connection's protocol, which gives its place back; wants a running loop."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._protocol = protocol
        self._gate = gate
        self._tls = tls
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()
        listening.settimeout(0)
        self._go_on()

    def close(self) -> None:
        """Accept no more. Connections that are open stay."""
        self._loop.remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()
        for task in self._opening:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait for what was about to open."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _go_on(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_IN_A_TURN):
            try:
                client, (address, *_) = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:  # Of the connection that would have been next (accept(2)).
                    continue
                log.error("No connection can be accepted: %s", error.strerror)  # noqa: TRY400 - the reason says it
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(_OUT_OF_FILES_S, self._go_on)
                return
            self._take(client, address)

    def _take(self, client: socket.socket, address: str) -> None:
        client.settimeout(0)
        refusal = self._gate.refusal(address)
        if refusal is None:
            self._open(client, address)
            return
        self._gate.refuse(refusal, address)
        # Without a moment to read: those who are refused would fill the places of the others.
        with client, suppress(OSError):
            if self._tls is None:
                client.send(answer_to(refusal))

    def _open(self, client: socket.socket, address: str) -> None:
        """Hand a connection to its protocol, after the TLS handshake if there is one."""
        self._gate.enter(address)
        protocol = self._protocol(address)
        timeout_s = None if self._tls is None else self._gate.handshake_timeout_s
        opening = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: protocol,
                client,
                ssl=self._tls,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=timeout_s,
            )
        )

        def opened(task: asyncio.Task[object]) -> None:
            self._opening.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.debug("A connection from %s did not open: %s", address, error)
            if protocol.transport is None:
                self._gate.leave(address)
                client.close()

        self._opening.add(opening)
        opening.add_done_callback(opened)
