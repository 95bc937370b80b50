"""Runs the application in uvicorn, on a socket of our own, until told to stop."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from service.app import open_app
from service.engine import Engine
from service.errors import Unavailable
from service.protocol import TIMESTAMP_BYTES
from service.settings import Settings
from service.websocket import WebSocketProtocol

log = logging.getLogger(__name__)

_BACKLOG = 1024
_SHUTDOWN_S = 5
_OTHER_FILES = 256
"""Open files beside the sessions' sockets: other connections, libraries, models."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        TimeConvError: the service cannot start; the message says why.
    """
    if sys.platform != "win32":
        allow_files(settings.max_sessions + _OTHER_FILES)
    with listen(settings) as listening, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_signalled(settings, listening))


def allow_files(wanted: int) -> None:
    """Raise this process's limit on open files to ``wanted``, or as far as the system lets it, and say so if not."""
    import resource  # noqa: PLC0415 - there is none for Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("The system allows %d open files, and as many sessions would need %d", allowed, wanted)


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
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on ``listening`` until ``stop`` is set; ``on_ready`` is called once every endpoint answers.

    Then sessions are sent away, see `Drain`, before anything is closed; ``hurry`` cuts that short.

    Raises:
        TimeConvError: the service cannot start; the message says why.
    """
    if not _is_loopback(settings.host):
        log.warning("Everyone who reaches %s can use this service: it asks for no key", settings.host)
    async with open_app(settings, exit_process=exit_process) as app:
        server = _Server(uvicorn_config(app, settings))
        serving = asyncio.create_task(server.serve([listening]))
        stopping = asyncio.create_task(stop.wait())
        host, port = listening.getsockname()[:2]
        # What was imported and loaded lives as long as the process: looking through it for garbage again and again
        # cost a quarter of all CPU time, and stood still for every client.
        gc.collect()
        gc.freeze()
        _log_ready(app.state.engine, f"http://{host if ':' not in host else f'[{host}]'}:{port}")
        on_ready()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():  # uvicorn closes every socket at once, with 1012 and nothing said.
            await app.state.engine.drain.run(hurry or asyncio.Event())
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they raise the signal again at the end, which would cut our closing off."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _serve_until_signalled(settings: Settings, listening: socket.socket) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        """The first signal stops the service in order, a second one at once."""
        (hurry if stop.is_set() else stop).set()

    if sys.platform == "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(signalled))
    else:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
    await serve(settings, listening, stop, hurry=hurry)
    log.info("Stopped")


def uvicorn_config(app: Callable[..., Awaitable[None]], settings: Settings) -> uvicorn.Config:
    """How uvicorn carries an ASGI application here; the load generator's echo is carried the same way."""
    return uvicorn.Config(
        app,
        lifespan="off",
        ws=WebSocketProtocol,
        ws_per_message_deflate=False,  # A JPEG does not get smaller, only later.
        ws_max_size=2 * settings.max_frame_bytes + TIMESTAMP_BYTES,
        # A pong cannot be read while reading pauses for a slow `every` session; our own timeouts end the dead ones.
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The factory of uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return asyncio.new_event_loop
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
