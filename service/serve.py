"""Runs the application in uvicorn, on a socket of our own."""

import logging
import socket

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.errors import Unavailable
from service.protocol import TIMESTAMP_BYTES
from service.settings import Settings

_BACKLOG = 1024
_SHUTDOWN_S = 5


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


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # A JPEG does not get smaller, only later.
        ws_max_size=2 * settings.max_frame_bytes + TIMESTAMP_BYTES,
        # A pong cannot be read while reading pauses for a slow `every` session; our own timeouts end the dead ones.
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def run(settings: Settings) -> int:
    """Serve until the process is told to stop; the exit status."""
    with listen(settings) as listening:
        port = listening.getsockname()[1]
        app = create_app(settings.model_copy(update={"port": port}))
        server = uvicorn.Server(uvicorn_config(app, settings))
        server.run(sockets=[listening])
        if not server.started:
            logging.getLogger(__name__).error("The service could not start")
        return 0 if server.started else 1
