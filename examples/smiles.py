"""Smiles: a function of yours is called when somebody begins to smile, and when they stop.

Shows    callbacks in the place of a loop (`listen`), several faces with ids that stay, and acting on a change that
         lasts in place of on every frame
Needs    a service (make serve); pip install './client[camera]'
Run      python examples/smiles.py                                   # the first camera
         python examples/smiles.py party.mp4                         # or a video file, as fast as it is answered
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from timeconv_client import Prediction, TimeConvClientError, connect, listen
from timeconv_client.camera import camera, video

LASTS_S = 0.5
"""A smile, or its end, counts once it has lasted so long."""


@dataclass
class Smiles:
    """Who is smiling. Times are those of the frames, in seconds."""

    on_change: Callable[[float, int, bool], None]
    smiling: dict[int, bool] = field(default_factory=dict)
    _differs_since_s: dict[int, float] = field(default_factory=dict)

    def see(self, prediction: Prediction) -> None:
        """Look at one answer; a face that is not sure is as it was."""
        assert prediction.captured_us is not None, "the session has timestamps"
        now_s = prediction.captured_us / 1e6
        for face in prediction.faces:
            if face.state != "ready" or face.uncertain:
                continue
            smiles = face.emotion == "happy"
            if smiles == self.smiling.get(face.id, False):
                self._differs_since_s.pop(face.id, None)
            elif now_s - self._differs_since_s.setdefault(face.id, now_s) >= LASTS_S:
                self.smiling[face.id] = smiles
                del self._differs_since_s[face.id]
                self.on_change(now_s, face.id, smiles)


def tell(now_s: float, face_id: int, smiles: bool) -> None:  # noqa: FBT001 - a callback's arguments come by place
    """What to do about it: yours to write."""
    print(f"{now_s:.2f} s  face {face_id} {'smiles' if smiles else 'smiles no more'}", flush=True)


async def watch(source: str, url: str) -> None:
    """Watch until the source ends."""
    is_camera = source.isdigit()
    smiles = Smiles(tell)
    async with (
        camera(int(source)) if is_camera else video(source) as frames,
        connect(
            url,
            key=os.environ.get("TIMECONV_KEY"),
            faces=4,
            freshness="latest" if is_camera else "every",
            timestamps=True,
        ) as session,
    ):
        await listen(session, frames, on_prediction=smiles.see)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="0", help="number of a camera, or video file")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service")
    given = parser.parse_args()
    try:
        asyncio.run(watch(given.source, given.url))
    except KeyboardInterrupt:
        print("bye")
    except TimeConvClientError as error:
        sys.exit(f"smiles.py: {error}")


if __name__ == "__main__":
    main()
