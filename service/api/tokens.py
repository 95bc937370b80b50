"""``POST /v1/tokens``: what a browser needs to open a session, and where it learns why it could not."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, JsonValue

from service.api.entry import REFUSALS, Credentials, check_origin, session_place
from service.api.openapi import refusals
from service.engine import Engine
from service.errors import AtCapacity, TooManySessions, Unavailable
from service.protocol import AUTH_PREFIX

router = APIRouter(prefix="/v1", tags=["access"])

_EXAMPLE: dict[str, JsonValue] = {
    "token": "PAYLOAD.MAC",
    "subprotocol": f"{AUTH_PREFIX}PAYLOAD.MAC",
    "expires_in_ms": 60_000,
}


class Token(BaseModel):
    """A token, and the subprotocol that carries it. Both are null where no key is asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    token: str | None
    subprotocol: str | None
    expires_in_ms: int


@router.post(
    "/tokens",
    summary="A short-lived token for a browser's session",
    responses=refusals(
        *REFUSALS,
        TooManySessions("As many sessions are connected as this key may have"),
        AtCapacity("All sessions are taken"),
        Unavailable("The service is stopping"),
    ),
)
async def tokens(request: Request, response: Response, given: Credentials) -> Token:
    """For an API key, never for a token; refused as the upgrade would be, with ``retry_after_ms``.

    A browser cannot read why an upgrade was refused, and can set no header on it.
    """
    engine: Engine = request.app.state.engine
    response.headers["Cache-Control"] = "no-store"
    check_origin(request)
    key = engine.access.by_key(None if given is None else given.credentials)
    with session_place(engine, request, key):
        lifetime_ms = engine.settings.token_lifetime_ms
    if engine.access.keys.is_open:
        return Token(token=None, subprotocol=None, expires_in_ms=lifetime_ms)
    token = engine.access.tokens.issue(key)
    return Token(token=token, subprotocol=AUTH_PREFIX + token, expires_in_ms=lifetime_ms)
