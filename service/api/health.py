"""``/healthz``, ``/readyz`` and ``/metrics``."""

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from pydantic import BaseModel, ConfigDict

from service.api.openapi import Responses, refusals
from service.engine import Engine

router = APIRouter(tags=["operations"])


class Worker(BaseModel):
    """What a worker is at, and for how long, in seconds."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    state: Literal["idle", "busy", "dead"]
    busy_s: float


class Health(BaseModel):
    """Whether every worker lives and moves."""

    healthy: bool
    workers: list[Worker]


class Readiness(BaseModel):
    """Whether to send clients here, and what is really in use."""

    ready: bool
    stopping: bool
    model: str
    device: str
    precision: str
    detector: str
    warnings: list[str]


def _told(kind: type[BaseModel], *, well: str, ill: str) -> Responses:
    """The same answer as 200 and as 503, where a problem too may come."""
    said = refusals()
    return {
        **said,
        200: {"model": kind, "description": well},
        503: {**said[503], "model": kind, "description": f"{ill}\n\n{said[503]['description']}"},
    }


@router.head("/healthz", include_in_schema=False)
@router.get(
    "/healthz",
    summary="Whether every worker lives and moves; 503 calls for a restart",
    responses=_told(Health, well="Every one does", ill="One is stuck or dead"),
)
async def healthz(request: Request) -> JSONResponse:
    """By what each worker is at, not by whether the event loop answers."""
    engine: Engine = request.app.state.engine
    healthy = not engine.watchdog.stuck
    body = Health(healthy=healthy, workers=[Worker.model_validate(state) for state in engine.pool.states()])
    return JSONResponse(body.model_dump(), status_code=200 if healthy else 503)


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Whether to send clients here, and what is really in use",
    responses=_told(Readiness, well="Send them", ill="Not now"),
)
async def readyz(request: Request) -> JSONResponse:
    """Ready once the default network is loaded and warmed, while no worker is stuck, until the service is stopped."""
    engine: Engine = request.app.state.engine
    ready = not (engine.watchdog.stuck or engine.drain.begun)
    device = engine.networks.device
    warnings = [engine.default.warning]
    if device.fallback is not None:
        warnings.append(f"No GPU can be used, so networks run on the CPU: {device.fallback}")
    body = Readiness(
        ready=ready,
        stopping=engine.drain.begun,
        model=engine.default.lane,
        device=device.name,
        precision=device.precision,
        detector=engine.look.detector.name,
        warnings=[warning for warning in warnings if warning is not None],
    )
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        **refusals(),
        200: {
            "description": "Text exposition format, or OpenMetrics",
            "content": {kind: {"schema": {"type": "string"}} for kind in (CONTENT_TYPE_LATEST, OPENMETRICS)},
        },
    },
)
async def metrics(request: Request) -> Response:
    """Text exposition format, or OpenMetrics for who asks for it."""
    engine: Engine = request.app.state.engine
    wanted = "application/openmetrics-text" in request.headers.get("accept", "")
    content_type = OPENMETRICS if wanted else CONTENT_TYPE_LATEST
    return Response(engine.metrics.exposition(openmetrics=wanted), media_type=content_type)
