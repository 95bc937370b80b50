"""The page at ``/``: plain files, nothing from other hosts."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

router = APIRouter(include_in_schema=False)

# Types of TypeScript are text for who copies them; no browser asks for them.
_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "ts": "text/plain",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:;"
    " connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    # What the page uses, and of what it does not the microphone.
    "Permissions-Policy": "camera=(self), display-capture=(self), fullscreen=(self), screen-wake-lock=(self),"
    " microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@cache
def _pages() -> dict[str, tuple[bytes, str]]:
    """Name, content and media type of every file of the page."""
    return {
        file.name: (file.read_bytes(), _TYPES[suffix])
        for file in files("service").joinpath("web").iterdir()
        if file.is_file() and (suffix := file.name.rpartition(".")[2]) in _TYPES
    }


@router.api_route("/", methods=["GET", "HEAD"])
async def index() -> Response:
    """The page itself."""
    return await part("index.html")


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def part(name: str) -> Response:
    """A style sheet or script of the page."""
    found = _pages().get(name)
    if found is None:
        raise HTTPException(404)
    content, media_type = found
    return Response(content, media_type=media_type, headers=_HEADERS)
