"""The composition root: one application out of its settings."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from service import __version__
from service.api import asyncapi, entry, health, models, openapi, page, predict, problems, stream, tokens
from service.api.requests import RequestIds
from service.engine import Engine, open_engine
from service.settings import Settings


@asynccontextmanager
async def open_app(
    settings: Settings,
    *,
    exit_process: Callable[[int], None] = os._exit,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[FastAPI]:
    """The ASGI application, its engine open; on the way out all is closed in reverse.

    It is a context, not a lifespan, so that what cannot be had is an error of the caller's before anything listens.

    Args:
        settings: as the command line read them.
        exit_process: how the watchdog ends a process with a stuck worker; without waiting for that worker.
        clock: seconds, monotonic.

    Raises:
        TimeConvError: a part cannot be had; the message says which and why.
    """
    async with open_engine(settings, exit_process=exit_process, clock=clock) as engine:
        yield create_app(engine)


def create_app(engine: Engine) -> FastAPI:
    """The endpoints around an engine."""
    # FastAPI's own /docs page loads its scripts from another host; this one brings them along.
    app = FastAPIOffline(
        title="TimeConv",
        version=__version__,
        summary="Facial expression from a stream of frames",
        description="The stream itself is a WebSocket at `/v1/stream`, which OpenAPI cannot say;"
        " [asyncapi.json](asyncapi.json) does.",
        redoc_url=None,
    )
    app.state.engine = engine
    problems.install(app)
    entry.install(app, engine.settings.allowed_origins)
    app.add_middleware(RequestIds)
    for part in (models, predict):
        app.include_router(part.router, dependencies=[Depends(entry.admit)])
    for part in (tokens, asyncapi, stream, page, *(() if engine.settings.ops_port else (health,))):
        app.include_router(part.router)
    # FastAPI caches this document.
    openapi.complete(app.openapi(), guarded=not engine.access.keys.is_open)
    return app


def create_ops_app(engine: Engine) -> FastAPI:
    """Health and metrics alone, for a port that the world does not see."""
    app = FastAPI(title="TimeConv operations", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.engine = engine
    problems.install(app)
    app.add_middleware(RequestIds)
    app.include_router(health.router)
    return app
