"""Live: what the face in front of a camera shows, for as long as it takes.

Shows    a session that outlives its connections (`stay_connected`), answers that are never old (`max_age_ms`),
         smoothing, and "not sure" and "no face" as answers like any other
Needs    a service (make serve); pip install './client[camera]'
Run      python examples/live.py                                     # the first camera
         python examples/live.py rtsp://camera.example/stream        # or a video file, which is shown in its own time
         TIMECONV_KEY=tc_... python examples/live.py --url https://faces.example.org

Prints a line when the word changes, and what becomes of the connection. Ctrl-C ends it.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from timeconv_client import (
    Disconnected,
    FrameOutcome,
    Outcome,
    Prediction,
    Reconnected,
    Reconnecting,
    TimeConvClientError,
    stay_connected,
)
from timeconv_client.camera import Camera, Video, camera, video


def open_source(source: str) -> Camera | Video:
    """A camera by its number, a file, or an address."""
    if source.isdigit():
        return camera(int(source))
    return video(source, realtime=True) if Path(source).is_file() else camera(source)


async def show(source: str, url: str) -> None:
    """Print what the largest face shows until the source ends."""
    shown = ""

    def say(word: str) -> None:
        nonlocal shown
        if word != shown:
            print(word, flush=True)
        shown = word

    key = os.environ.get("TIMECONV_KEY")
    async with (
        open_source(source) as frames,
        stay_connected(url, key=key, timestamps=True, max_age_ms=400, smoothing_ms=500) as session,
    ):
        async for event in session.stream(frames):
            match event:
                case Prediction(faces=[face, *_]):
                    # A guess that is shown as an answer harms who relies on it.
                    say("not sure" if face.uncertain or face.emotion is None else face.emotion)
                case FrameOutcome(outcome=Outcome.NO_FACE):
                    say("no face")
                case Disconnected(error=error, lost=lost):
                    say(f"({error}; frames without an answer: {len(lost)})")
                case Reconnecting(wait_s=wait_s):
                    say(f"(trying again in {wait_s:.1f} s)")
                case Reconnected(resumed=resumed):
                    say("(back, in the same session)" if resumed else "(back, in a new session)")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="0", help="number of a camera, address, or video file")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service")
    given = parser.parse_args()
    try:
        asyncio.run(show(given.source, given.url))
    except KeyboardInterrupt:
        print("bye")
    except TimeConvClientError as error:
        sys.exit(f"live.py: {error}")


if __name__ == "__main__":
    main()
