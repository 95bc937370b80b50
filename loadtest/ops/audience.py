"""Who is at the service while it is watched: viewers that come back, and visitors who do what is done now and then."""

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
from websockets.asyncio.client import connect as open_websocket

from timeconv_client import Session, SessionStarted, SessionUpdated, TimeConvClientError, connect, parse_message
from timeconv_client.address import stream_url
from timeconv_client.opening import SUBPROTOCOL

_COME_BACK_S = 0.5
_SWAP_TIMEOUT_S = 60
_FRAMES = 5
OTHER_MODEL = "timeconv-mini-xception"


@asynccontextmanager
async def viewers(address: str, clip: Sequence[bytes], number: int, frames_per_s: float) -> AsyncIterator[None]:
    """So many live sessions at once for the length of the block."""
    watching = [asyncio.create_task(_view(address, clip, 1 / frames_per_s)) for _ in range(number)]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _view(address: str, clip: Sequence[bytes], period_s: float) -> None:
    """Send as a camera does, and come back to the same session when the connection breaks, until cancelled."""
    loop = asyncio.get_running_loop()
    token = None
    while True:
        try:
            async with connect(address, resume=token) as session, asyncio.TaskGroup() as both:
                token = session.started.resume_token
                both.create_task(_read(session))
                due_s = loop.time()
                for frame in itertools.cycle(clip):
                    session.try_send(frame)
                    due_s = max(due_s + period_s, loop.time())
                    await asyncio.sleep(due_s - loop.time())
        except* TimeConvClientError:
            pass
        await asyncio.sleep(_COME_BACK_S)


async def _read(session: Session) -> None:
    async for _ in session:
        pass


async def visit(address: str, clip: Sequence[bytes], store: Path, default: str) -> None:
    """Once everything that a load alone does not do: REST, another network, refusals, a resume, new versions.

    ``store``: the service's, which may be written to; a version of the network ``default`` is added that takes over.
    """
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        for model in (default, OTHER_MODEL):
            files = [("frames", (f"{number}.jpg", clip[number], "image/jpeg")) for number in range(_FRAMES)]
            (await http.post("/v1/predict", params={"model": model}, files=files)).raise_for_status()
        await http.post("/v1/predict", files=[("frames", ("0.jpg", b"no picture", "image/jpeg"))])
        await http.get("/v1/nothing")
    with suppress(TimeConvClientError):
        async with connect(address, model="unknown"):
            pass
    await _break_and_resume(address, clip)
    async with connect(address) as session:
        await asyncio.to_thread(_publish, store, default, "2")
        async with asyncio.timeout(_SWAP_TIMEOUT_S):
            async for event in session:
                if isinstance(event, SessionUpdated) and event.by == "service":
                    break


async def _break_and_resume(address: str, clip: Sequence[bytes]) -> None:
    """A connection that breaks; its session goes on, one that is unknown does not."""
    socket = await open_websocket(stream_url(address, {}), subprotocols=[SUBPROTOCOL], compression=None, proxy=None)
    started = parse_message(await socket.recv())
    assert isinstance(started, SessionStarted)
    await socket.send(clip[0])
    socket.transport.abort()
    for token in (started.resume_token, "unknown"):
        async with connect(address, resume=token) as session:
            async for _ in session.stream(clip[:_FRAMES]):
                pass


@contextmanager
def damaged_version(store: Path, network: str) -> Iterator[None]:
    """A version in the store whose file is not what its manifest says; a service would not start with it."""
    _publish(store, network, "3", damaged=True)
    try:
        yield
    finally:
        shutil.rmtree(store / network / "3")


def _publish(store: Path, network: str, version: str, *, damaged: bool = False) -> None:
    """Put a copy of version 1 into the store under another number, all of it at once."""
    copy = store.parent / f"{network}-{version}"
    shutil.copytree(store / network / "1", copy)
    manifest = json.loads((copy / "manifest.json").read_bytes())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"version": version}), encoding="utf-8")
    if damaged:
        for file in copy.glob("*.onnx"):
            file.write_bytes(file.read_bytes()[:-1])
    copy.rename(store / network / version)
