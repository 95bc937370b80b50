"""The composition root: one application out of its settings."""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service import __version__
from service.api import health, models, page, predict, problems, stream
from service.engine import open_engine
from service.settings import Settings

log = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    *,
    exit_process: Callable[[int], None] = os._exit,
    on_ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The ASGI application. Nothing is opened before its lifespan starts.

    Args:
        settings: as the command line read them.
        exit_process: how the watchdog ends a process with a stuck worker; without waiting for that worker.
        on_ready: called once the default network is loaded and warmed.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_engine(settings, exit_process=exit_process) as engine:
            app.state.engine = engine
            log.info(
                "Ready",
                extra={
                    "model": engine.default.lane,
                    "device": engine.networks.device.name,
                    "detector": engine.look.detector.name,
                    "workers": settings.workers,
                    "address": f"http://{settings.host}:{settings.port}",
                },
            )
            on_ready()
            yield

    # FastAPI's own /docs page loads its scripts from another host; this one brings them along.
    app = FastAPIOffline(
        title="TimeConv",
        version=__version__,
        summary="Facial expression from a stream of frames",
        lifespan=lifespan,
        redoc_url=None,
    )
    problems.install(app)
    for part in (health, models, predict, stream, page):
        app.include_router(part.router)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Put the wire types into the OpenAPI document."""
    app.openapi().setdefault("components", {}).setdefault("schemas", {}).update(predict.COMPONENTS)
