"""Clips that may be shown: made of the astronaut picture (NASA, public domain) that scikit-image ships.

Run as a program it writes one: ``python -m loadtest.clips FILE``.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from skimage import data

from timeconv_client.camera import quiet_opencv

FRAMES_PER_S = 25


def moving_face(frames: int, size: tuple[int, int] = (320, 240)) -> Iterator[NDArray[np.uint8]]:
    """RGB frames [h, w, 3] of a smiling face that drifts and comes nearer; ``size`` is width, height."""
    picture = data.astronaut()  # type: ignore[no-untyped-call] # scikit-image has not typed it
    unit = size[1] / 240
    for index in range(frames):
        zoom = unit * (0.75 + 0.15 * index / max(frames - 1, 1))
        right, down = unit * (-30 + 20 * np.sin(index / 8)), unit * (-10 + 8 * np.cos(index / 6))
        yield np.asarray(cv2.warpAffine(picture, np.array([[zoom, 0, right], [0, zoom, down]]), size), np.uint8)


def face_alone(frames: int, side: int = 96) -> Iterator[NDArray[np.uint8]]:
    """RGB frames [side, side, 3] of the same face, cropped to it, a little unsteady: as ``region=whole`` wants them."""
    picture = data.astronaut()  # type: ignore[no-untyped-call] # scikit-image has not typed it
    for index in range(frames):
        zoom = side / 130 * (0.95 + 0.1 * index / max(frames - 1, 1))
        x, y = 224 + 4 * np.sin(index / 8), 118 + 3 * np.cos(index / 6)
        place = np.array([[zoom, 0, side / 2 - zoom * x], [0, zoom, side / 2 - zoom * y]])
        yield np.asarray(cv2.warpAffine(picture, place, (side, side)), np.uint8)


def encoded(frames: Iterable[NDArray[np.uint8]]) -> list[bytes]:
    """RGB frames as JPEGs, as cameras and browsers make them: colour at half the resolution."""
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=90, colorsubsampling="420") for frame in frames]


def there_and_back(clip: Sequence[bytes]) -> list[bytes]:
    """A clip that may be repeated without a jump, which would empty every window: forwards, then backwards."""
    return [*clip, *clip[-2:0:-1]]


def write_clip(file: Path, frames: int = 50, size: tuple[int, int] = (320, 240)) -> None:
    """Write the moving face as a video: Motion JPEG, or for a browser, by the name ``.webm``, VP8."""
    codec = "VP80" if file.suffix == ".webm" else "MJPG"
    with quiet_opencv():
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*codec), FRAMES_PER_S, size)
    if not writer.isOpened():
        raise SystemExit(f"Cannot write {file}: give a name in .avi, or in .webm for a browser")
    for frame in moving_face(frames, size):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


if __name__ == "__main__":
    write_clip(Path(sys.argv[1]))
