"""Many clients at once share batches, and nothing else."""

import asyncio

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import LiveServer, jpeg
from timeconv_client import Prediction, connect

CLIENTS = 8
MODEL = "timeconv-mini-xception"  # A network that gains from batches; ResNet20 does not, and runs windows one by one.
TOLERANCE = 1e-4
FRAME_US = 40_000


async def predictions(server: LiveServer, clip: list[bytes]) -> dict[int, list[float]]:
    """Probabilities by seq of a clip streamed in `every`."""
    found: dict[int, list[float]] = {}

    async def read() -> None:
        async for event in session:
            if isinstance(event, Prediction):
                found[event.seq] = list(event.faces[0].probabilities.values())

    # With capture times: by those of arrival the detector is asked more often on a busy machine, and boxes differ.
    async with connect(server.url, freshness="every", timestamps=True, model=MODEL) as session:
        reading = asyncio.create_task(read())
        for index, frame in enumerate(clip):
            await session.send(frame, index * FRAME_US)
        closed = await session.close()
        await reading
    assert closed.totals.received == sum(closed.totals.outcomes.values()) == len(clip)
    return found


def batches(server: LiveServer) -> tuple[float, float]:
    """Batches run so far, and how many of them were of one window."""
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        for sample in family.samples
    }
    return (
        samples.get(("timeconv_batch_size_count", None), 0),
        samples.get(("timeconv_batch_size_bucket", "1.0"), 0),
    )


def clip_of(client: int, face_clip: list[bytes]) -> list[bytes]:
    """A clip that is this client's own: the common one, begun elsewhere and gone through several times."""
    return (face_clip[client:] + face_clip[:client]) * 4


def test_eight_clients_share_batches_and_get_what_each_gets_alone(
    live_server: LiveServer, face_clip: list[bytes]
) -> None:
    """At saturation most batches hold several windows, and each client's results are those it gets alone."""
    clips = [clip_of(client, face_clip) for client in range(CLIENTS)]

    async def all_at_once() -> list[dict[int, list[float]]]:
        return await asyncio.gather(*(predictions(live_server, clip) for clip in clips))

    before, before_of_one = batches(live_server)
    together = asyncio.run(all_at_once())
    after, after_of_one = batches(live_server)
    assert (after_of_one - before_of_one) < (after - before) / 2
    for clip, shared in zip(clips, together, strict=True):
        alone = asyncio.run(predictions(live_server, clip))
        assert shared.keys() == alone.keys()
        np.testing.assert_allclose(
            np.array([shared[seq] for seq in sorted(shared)]),
            np.array([alone[seq] for seq in sorted(alone)]),
            atol=TOLERANCE,
        )


def test_sessions_see_only_their_own_faces(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """A session of faceless frames beside one with a face gets no face, however their frames interleave."""
    blank = [jpeg(np.full((240, 320), 90, np.uint8))] * len(face_clip)

    async def both() -> list[dict[int, list[float]]]:
        return await asyncio.gather(predictions(live_server, face_clip), predictions(live_server, blank))

    with_face, without = asyncio.run(both())
    assert (len(with_face), without) == (len(face_clip) - 4, {})
