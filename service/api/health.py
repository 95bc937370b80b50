"""``/healthz``, ``/readyz`` and ``/metrics``."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS

from service.engine import Engine

router = APIRouter(tags=["operations"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether every worker lives and moves; 503 calls for a restart")
async def healthz(request: Request) -> JSONResponse:
    """By what each worker is at, not by whether the event loop answers."""
    engine: Engine = request.app.state.engine
    healthy = not engine.watchdog.stuck
    body = {"healthy": healthy, "workers": [asdict(state) for state in engine.pool.states()]}
    return JSONResponse(body, status_code=200 if healthy else 503)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Whether to send clients here, and what is really in use")
async def readyz(request: Request) -> JSONResponse:
    """Ready once the default network is loaded and warmed, while no worker is stuck, until the service is stopped."""
    engine: Engine = request.app.state.engine
    ready = not (engine.watchdog.stuck or engine.drain.begun)
    device = engine.networks.device
    warnings = [engine.default.warning]
    if device.fallback is not None:
        warnings.append(f"No GPU can be used, so networks run on the CPU: {device.fallback}")
    body = {
        "ready": ready,
        "stopping": engine.drain.begun,
        "model": engine.default.lane,
        "device": device.name,
        "precision": device.precision,
        "detector": engine.look.detector.name,
        "warnings": [warning for warning in warnings if warning is not None],
    }
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Text exposition format, or OpenMetrics for who asks for it."""
    engine: Engine = request.app.state.engine
    wanted = "application/openmetrics-text" in request.headers.get("accept", "")
    content_type = OPENMETRICS if wanted else CONTENT_TYPE_LATEST
    return Response(engine.metrics.exposition(openmetrics=wanted), media_type=content_type)
