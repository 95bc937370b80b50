"""service.api.requests where the answer is made outside of all middleware."""

import asyncio
import logging
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from service.api import problems
from service.api.requests import RequestIds
from service.telemetry.metrics import Metrics


def test_what_failed_unexpectedly_can_be_found(caplog: pytest.LogCaptureFixture) -> None:
    """Answer and log have the same id, the log alone has the reason, and it is counted."""
    app, metrics = FastAPI(), Metrics()
    app.state.engine = SimpleNamespace(metrics=metrics)
    problems.install(app)
    app.add_middleware(RequestIds)

    @app.get("/")
    def fail() -> None:
        raise ZeroDivisionError("secret detail")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/", headers={"X-Request-ID": "failed-1"})

    response = asyncio.run(ask())
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert (response.status_code, response.headers["X-Request-ID"]) == (500, "failed-1")
    assert "secret" not in response.text
    assert metrics.registry.get_sample_value("timeconv_refused_total", {"code": "internal"}) == 1
    assert (record.getMessage(), record.request) == ("GET / failed", "failed-1")  # type: ignore[attr-defined] # an extra
