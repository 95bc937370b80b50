import asyncio

import httpx
import pytest

from service.settings import Settings
from tests.conftest import serving
from timeconv_client import Prediction, connect

pytest.importorskip("openvino", reason="openvino is not installed: make test OPENVINO=1")


async def predictions(url: str, clip: list[bytes]) -> int:
    async with connect(url, freshness="every") as session:
        return sum([isinstance(event, Prediction) async for event in session.stream(clip)])


def test_service(face_clip: list[bytes]) -> None:
    """A service on OpenVINO answers a stream, and says what it runs on."""
    with serving(Settings(port=0, device="openvino", workers=2)) as server:
        body = httpx.get(f"{server.url}/readyz").json()
        assert (body["device"], body["warnings"]) == ("openvino", [])
        assert asyncio.run(predictions(server.url, face_clip)) == len(face_clip) - 4
