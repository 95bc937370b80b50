"""A folder of videos: how much of each shows which emotion, as a table.

Shows    the client without asyncio (`sync`), nothing dropped (`freshness="every"`), times of the video in place of
         those of arrival (`timestamps`), several sessions side by side, and errors by their type
Needs    a service (make serve); pip install './client[camera]'
Run      python examples/folder.py clips > emotions.csv

For tables of every frame, annotated videos and timelines there is a command: timeconv stream clips --out results
"""

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from timeconv_client import FrameOutcome, Outcome, Prediction, TimeConvClientError, sync
from timeconv_client.camera import video

COLUMNS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "not sure", "no face")


def words(path: Path, url: str) -> Counter[str]:
    """Frames of a video by what they show; the first four of a face, which only fill its window, are not counted.

    Raises:
        TimeConvClientError: the file cannot be read, or the service cannot be had.
    """
    counts: Counter[str] = Counter()
    with (
        video(path) as frames,
        sync.connect(url, key=os.environ.get("TIMECONV_KEY"), freshness="every", timestamps=True) as session,
    ):
        for event in session.stream(frames):
            match event:
                case Prediction(faces=[face, *_]):
                    counts["not sure" if face.uncertain or face.emotion is None else face.emotion] += 1
                case FrameOutcome(outcome=Outcome.NO_FACE):
                    counts["no face"] += 1
    return counts


def row(path: Path, url: str) -> list[str] | None:
    """The line of a video, or None if there is none: one bad file stops nobody."""
    try:
        counts = words(path, url)
    except TimeConvClientError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return None
    total = counts.total()
    return [path.name, str(total), *(f"{counts[column] / total:.3f}" if total else "" for column in COLUMNS)]


def write_table(paths: Iterable[Path], url: str) -> bool:
    """Write the table to standard output, in the order of the names; whether all videos are in it."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["video", "frames", *COLUMNS])
    # Two at once: while the service has frames of one, the other is decoded.
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda path: row(path, url), sorted(paths)))
    table.writerows(found for found in rows if found is not None)
    return None not in rows


def main() -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service")
    given = parser.parse_args()
    return 0 if write_table((path for path in given.folder.iterdir() if path.is_file()), given.url) else 1


if __name__ == "__main__":
    sys.exit(main())
