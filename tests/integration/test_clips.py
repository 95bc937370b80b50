"""Real clips through a real service, as `timeconv stream` sends them."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.clips import write_clip
from service.streaming import StreamRequest, Summary, stream_clip
from service.vision.boxes import Box, iou
from service.vision.detect import YuNet
from tests.conftest import LiveServer

SHARED = Path(__file__).parents[3] / "shared" / "data"
CLIPS = sorted((SHARED / "media" / "grid_ccby4").glob("*.mpg"))
YUNET_FILE = SHARED / "detector" / "face_detection_yunet_2023mar.onnx"
FILLING = 4

needs_clips = pytest.mark.skipif(not CLIPS, reason="the shared clips are not here")


def streamed(clip: Path, server: LiveServer, folder: Path) -> tuple[Summary, list[dict[str, str]]]:
    """The summary of a clip streamed in `every`, and its CSV rows."""
    table = folder / "rows.csv"
    summary = stream_clip(StreamRequest(clip=str(clip), url=server.url, csv=table, every=True, quiet=True))
    with table.open() as lines:
        return summary, list(csv.DictReader(lines))


def gray_frames(clip: Path) -> list[NDArray[np.uint8]]:
    """All frames of a clip, gray [h, w]."""
    capture, frames = cv2.VideoCapture(str(clip)), []
    while (read := capture.read())[0]:
        frames.append(np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY), np.uint8))
    return frames


def share_of(emotion: str, rows: list[dict[str, str]]) -> float:
    """Share of an emotion among the predictions."""
    emotions = Counter(row["emotion"] for row in rows if row["outcome"] == "prediction")
    return emotions[emotion] / emotions.total()


@needs_clips
@pytest.mark.shared
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.stem)
def test_a_talking_head_is_followed_and_not_called_happy(clip: Path, live_server: LiveServer, tmp_path: Path) -> None:
    """Nearly every frame of a speaker gets a prediction with the face where YuNet sees it; few are called happy."""
    summary, rows = streamed(clip, live_server, tmp_path)
    assert (summary.agrees, summary.unanswered, len(rows)) == (True, 0, 75)
    reference = YuNet(YUNET_FILE)
    right = 0
    for row, frame in zip(rows[FILLING:], gray_frames(clip)[FILLING:], strict=True):
        faces = reference.detect(frame)
        box = Box(*(float(row[side]) for side in "xywh")) if row["outcome"] == "prediction" else None
        right += box is not None and bool(faces) and iou(box, faces[0].box) >= 0.5
    assert right >= 0.95 * (len(rows) - FILLING)
    assert share_of("happy", rows) <= 0.10


def test_a_smile_is_called_happy(live_server: LiveServer, tmp_path: Path) -> None:
    """A drifting, zooming picture of a smiling person is happy on nine of ten frames."""
    clip = tmp_path / "smile.avi"
    write_clip(clip, frames=75)
    summary, rows = streamed(clip, live_server, tmp_path)
    assert (summary.agrees, summary.unanswered, len(rows)) == (True, 0, 75)
    assert sum(row["outcome"] == "prediction" for row in rows) >= 0.95 * (len(rows) - FILLING)
    assert share_of("happy", rows) >= 0.9
