"""Runs the application in uvicorn, on a socket of our own, until told to stop."""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

import uvicorn

from service.acceptor import Acceptor
from service.app import create_ops_app, open_app
from service.engine import Engine
from service.errors import BadConfiguration, Unavailable
from service.gate import Gate
from service.http import HttpProtocol
from service.limits import is_loopback
from service.protocol import TIMESTAMP_BYTES
from service.settings import Settings, listed
from service.websocket import WebSocketProtocol

log = logging.getLogger(__name__)

_BACKLOG = 1024
_SHUTDOWN_S = 4
"""How long requests under way get once sessions are gone: with `CLOSE_TIMEOUT_S`, the 6 s of docs/configuration.md."""
_LEAVE_S = 0.3
"""For threads whose work is done to be gone."""
_OPS_CONNECTIONS = 64
"""At once on the port for operations: whoever watches a service needs a few."""
_OTHER_FILES = 256
"""Open files beside the connections' sockets: libraries, models, connections on their way out."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        TimeConvError: the service cannot start; the message says why.
    """
    check_entry(settings)
    if sys.platform != "win32":
        allow_files(settings.max_connections + _OTHER_FILES)
    with listen(settings) as listening, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_signalled(settings, listening))
    _leave()


def check_entry(settings: Settings) -> None:
    """Refuse settings that would let everybody in unasked, or serve half of TLS.

    Raises:
        BadConfiguration: no keys beyond the loopback, or a certificate without its key.
    """
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise BadConfiguration("TIMECONV_TLS_CERT and TIMECONV_TLS_KEY go together")
    if settings.tls_cert is not None:
        try:
            # A password is given, and wrong, so that nobody is asked for one on a terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, password="")
        except OSError as error:
            reason = error.strerror or error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise BadConfiguration(f"No TLS with {settings.tls_cert} and {settings.tls_key}: {reason}") from error
    if is_loopback(settings.host) or settings.keys_file is not None or settings.keys.get_secret_value():
        return
    if not settings.allow_anyone:
        raise BadConfiguration(
            f"Without keys the service listens on the loopback only, not on {settings.host}: set TIMECONV_KEYS_FILE"
            " (`timeconv key NAME` makes a key), or TIMECONV_ALLOW_ANYONE=true if everyone who reaches it may use it"
        )
    log.warning("Everyone who reaches %s can use this service: it asks for no key", settings.host)


def allow_files(wanted: int) -> None:
    """Raise this process's limit on open files to ``wanted``, or as far as the system lets it, and say so if not."""
    import resource  # noqa: PLC0415 - there is none for Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("The system allows %d open files, and as many connections would need %d", allowed, wanted)


def listen(settings: Settings) -> socket.socket:
    """A listening socket; with port 0 on a free port.

    Its small send buffer is inherited by every connection, so that a client that stops reading is noticed after
    kilobytes, not megabytes.

    Raises:
        Unavailable: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise Unavailable(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    return listening


async def serve(
    settings: Settings,
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    hurry: asyncio.Event | None = None,
    exit_process: Callable[[int], None] = os._exit,
    on_open: Callable[[Engine], object] = lambda _: None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on ``listening`` until ``stop`` is set; ``on_ready`` is called once every endpoint answers.

    ``on_open`` gets the engine as soon as it is open. Then sessions are sent away, see `Drain`, before anything is
    closed; ``hurry`` cuts that short.

    Raises:
        TimeConvError: the service cannot start; the message says why.
    """
    if settings.max_connections < settings.max_sessions:
        log.warning(
            "max_connections is %d, so there cannot be %d sessions", settings.max_connections, settings.max_sessions
        )
    async with open_app(settings, exit_process=exit_process) as app, _operations(app.state.engine) as close_operations:
        on_open(app.state.engine)
        metrics = app.state.engine.metrics
        gate = Gate(settings, refused=metrics.refused)
        metrics.watch_connections(lambda: gate.connections)
        server = Server(uvicorn_config(app, settings, gate), gate)
        serving = asyncio.create_task(server.serve([listening]))
        stopping = asyncio.create_task(stop.wait())
        host, port = listening.getsockname()[:2]
        scheme = "http" if settings.tls_cert is None else "https"
        # What was imported and loaded lives as long as the process: looking through it for garbage again and again
        # cost a quarter of all CPU time, and stood still for every client.
        gc.collect()
        gc.freeze()
        # Python looks through all that is not frozen once this has grown by a quarter since it last did. Without the
        # count that is made here, the quarter is of what is frozen too, and 15,000 sessions' remains pile up.
        gc.collect()
        _log_ready(app.state.engine, f"{scheme}://{host if ':' not in host else f'[{host}]'}:{port}")
        on_ready()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():  # uvicorn closes every socket at once, with 1012 and nothing said.
            await app.state.engine.drain.run(hurry or asyncio.Event())
        close_operations()  # Both at once, for each may have to wait for its clients.
        server.should_exit = True
        await serving


class Server(uvicorn.Server):
    """uvicorn with acceptors of ours.

    It has no signal handlers: uvicorn's raise the signal again at the end, which would cut our closing off.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate) -> None:
        """``config`` is of `uvicorn_config`, with the same ``gate``."""
        super().__init__(config)
        self._gate = gate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on ``sockets``."""
        protocol = cast("Callable[..., HttpProtocol]", self.config.http_protocol_class)

        def opened(address: str) -> HttpProtocol:
            return protocol(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state, address=address
            )

        acceptors = [Acceptor(listening, opened, self._gate, tls=self.config.ssl) for listening in sockets or ()]
        self.servers = cast("list[asyncio.Server]", acceptors)
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve_until_signalled(settings: Settings, listening: socket.socket) -> None:
    stop, hurry, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        """The first signal stops the service in order, a second one at once; so does any before it serves."""
        if not ready.is_set():
            serving.cancel()
        (hurry if stop.is_set() else stop).set()

    if sys.platform == "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(signalled))
    else:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
    serving = asyncio.create_task(
        serve(settings, listening, stop, hurry=hurry, on_open=_reload_on_hangup, on_ready=ready.set)
    )
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    log.info("Stopped")


@contextlib.asynccontextmanager
async def _operations(engine: Engine) -> AsyncIterator[Callable[[], None]]:
    """Serve health and metrics on their own port, if they have one, for as long as the block lasts.

    Yields what begins to close it; the end of the block waits for that.

    Raises:
        Unavailable: the address is taken or not ours.
    """
    settings = engine.settings
    if not settings.ops_port:
        yield lambda: None
        return
    settings = settings.model_copy(
        update={
            "host": settings.ops_host,
            "port": settings.ops_port,
            "max_connections": _OPS_CONNECTIONS,
            "trusted_proxies": "",
            "tls_cert": None,
            "tls_key": None,
        }
    )
    with listen(settings) as listening:
        gate = Gate(settings, refused=engine.metrics.refused)
        config = uvicorn_config(create_ops_app(engine), settings, gate)
        server = Server(config, gate)
        serving = asyncio.create_task(server.serve([listening]))

        def close() -> None:
            server.should_exit = True

        try:
            yield close
        finally:
            close()
            await serving


def _leave() -> None:
    """End the process here and now if a thread was left behind, within a model's load or a network's run.

    The interpreter's own end takes away what such a thread still uses, and it could crash after all was in order.
    """
    deadline_s = time.monotonic() + _LEAVE_S
    threads = [thread for thread in threading.enumerate() if thread.daemon]
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if left := [thread.name for thread in threads if thread.is_alive()]:
        log.warning("Left behind while at work: %s", ", ".join(left))
        logging.shutdown()
        os._exit(0)


def _reload_on_hangup(engine: Engine) -> None:
    """Have SIGHUP read the keys anew."""
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, engine.access.keys.reload)


def uvicorn_config(app: Callable[..., Awaitable[None]], settings: Settings, gate: Gate) -> uvicorn.Config:
    """How uvicorn carries an ASGI application here; the load generator's echo is carried the same way."""
    # uvicorn only ever calls these classes.
    return uvicorn.Config(
        app,
        lifespan="off",
        http=cast("type[asyncio.Protocol]", functools.partial(HttpProtocol, gate=gate)),
        ws=cast("type[asyncio.Protocol]", functools.partial(WebSocketProtocol, gate=gate)),
        ws_per_message_deflate=False,  # A JPEG does not get smaller, only later.
        ws_max_size=2 * settings.max_frame_bytes + TIMESTAMP_BYTES,
        # A pong cannot be read while reading pauses for a slow `every` session; our own timeouts end the dead ones.
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=listed(settings.trusted_proxies),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The factory of uvloop where there is one; else of a loop that can wait for sockets to be ready."""
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop


def _log_ready(engine: Engine, address: str) -> None:
    log.info(
        "Ready",
        extra={
            "model": engine.default.lane,
            "device": engine.networks.device.name,
            "detector": engine.look.detector.name,
            "workers": engine.settings.workers,
            "address": address,
        },
    )
