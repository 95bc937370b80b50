"""From JPEG bytes to an upright gray picture, limits first.

The header is read before anything is decoded, so a picture that would unpack to gigabytes costs microseconds.
simplejpeg (libjpeg-turbo) decodes straight to gray and raises on corrupt data, which OpenCV's decoder does not.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from service.errors import BadImage, ImageTooLarge

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOF_BYTES = 6
_EXIF_MAGIC = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_TIFF_HEADER_BYTES, _IFD_ENTRY_BYTES = 8, 12
_MAX_SEGMENTS = 256
_MAX_FILL_BYTES = 64
_MAX_SCANS = 32
"""A scan of a progressive JPEG is a pass over the whole picture, and twenty bytes ask for one; encoders use ten."""

# EXIF orientation (CIPA DC-008, 4.6.4) to the turn, then mirror, that sets the stored picture upright.
_TURNS: dict[int, int] = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
_MIRRORED: dict[int, int] = {2: 1, 4: 3, 5: 6, 7: 8}
"""A mirrored orientation, and the plain one that is left once the upright picture is flipped left to right."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Stored size in pixels, and EXIF orientation 1..8 (1 is upright)."""

    width: int
    height: int
    orientation: int


def read_header(jpeg: bytes) -> JpegHeader:
    """Size and orientation of a JPEG, from its markers (ITU-T T.81, annex B); nothing is decoded.

    Raises:
        BadImage: empty, not a JPEG, or cut off or damaged before the first scan.
    """
    if not jpeg:
        raise BadImage("empty", "The message is empty; a frame is one JPEG")
    if jpeg[:2] != bytes((0xFF, _START_OF_IMAGE)):
        raise BadImage("not_jpeg", f"The frame is not a JPEG: it begins with {jpeg[:4].hex(' ')}, not ff d8")
    orientation, position = 1, 2
    for _ in range(_MAX_SEGMENTS):
        marker, position = _next_marker(jpeg, position)
        if marker in _STANDALONE:
            continue
        segment = _segment(jpeg, position)
        if marker in _START_OF_FRAME:
            if len(segment) < _SOF_BYTES:
                raise BadImage("corrupt", "The JPEG's frame header is too short")
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            if not (width and height):
                raise BadImage("unsupported", "The JPEG's header gives no size")
            return JpegHeader(width, height, orientation)
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            raise BadImage("corrupt", "The JPEG has no frame header")
        if marker == _APP1 and segment.startswith(_EXIF_MAGIC):
            orientation = _orientation(segment[len(_EXIF_MAGIC) :])
        position += 2 + len(segment)
    raise BadImage("unsupported", f"The JPEG has more than {_MAX_SEGMENTS} segments before its picture")


def decode_gray(jpeg: bytes, *, max_bytes: int, max_pixels: int, shrink: int = 1) -> NDArray[np.uint8]:
    """Upright gray picture [h, w] of a JPEG.

    Args:
        jpeg: one whole JPEG file.
        max_bytes: largest size of the file.
        max_pixels: largest width x height, by the header.
        shrink: 1, 2, 4 or 8 pixels of the file, a side, become one, which costs less than decoding them all; a last
            row or column of fewer is kept as a pixel.

    Raises:
        ImageTooLarge: more bytes or pixels than allowed; nothing was decoded.
        BadImage: not a JPEG, cut off, damaged, or of so many scans that decoding it would take minutes.
    """
    if len(jpeg) > max_bytes:
        raise ImageTooLarge(f"The frame has {len(jpeg)} bytes; at most {max_bytes} are taken")
    header = read_header(jpeg)
    if header.width * header.height > max_pixels:
        raise ImageTooLarge(f"The picture is {header.width}x{header.height}; at most {max_pixels} pixels are taken")
    if (scans := _count_scans(jpeg)) > _MAX_SCANS:
        raise BadImage("unsupported", f"The JPEG has {scans} scans; at most {_MAX_SCANS} are taken")
    try:
        stored = simplejpeg.decode_jpeg(
            jpeg,
            colorspace="GRAY",
            min_height=-(-header.height // shrink),
            min_width=-(-header.width // shrink),
            min_factor=1,
        )[:, :, 0]
    except ValueError as error:
        raise BadImage("corrupt", f"The JPEG cannot be decoded: {error}") from error
    return upright(stored, header.orientation)


def _count_scans(jpeg: bytes) -> int:
    """Compressed data holds no 0xff that is not stuffed, so these are scans only, and those of a thumbnail."""
    data = np.frombuffer(jpeg, np.uint8)
    # Over 50 KB `bytes.count` takes five times as long.
    return int(np.count_nonzero((data[:-1] == 0xFF) & (data[1:] == _START_OF_SCAN)))


def upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A stored picture [h, w] or [h, w, channels] turned and mirrored by its EXIF orientation."""
    turn = _TURNS.get(_MIRRORED.get(orientation, orientation))
    turned = stored if turn is None else np.asarray(cv2.rotate(stored, turn), np.uint8)
    return np.ascontiguousarray(turned[:, ::-1]) if orientation in _MIRRORED else turned


def _next_marker(jpeg: bytes, position: int) -> tuple[int, int]:
    """The marker at ``position`` and where its segment begins; a few fill bytes (0xff) before it are skipped."""
    ahead = jpeg[position : position + _MAX_FILL_BYTES]
    marker = ahead.lstrip(b"\xff")
    if not ahead.startswith(b"\xff") or not marker:
        raise BadImage("corrupt", f"The JPEG is cut off or damaged at byte {position}")
    return marker[0], position + len(ahead) - len(marker) + 1


def _segment(jpeg: bytes, position: int) -> bytes:
    """Content of the segment whose two length bytes lie at ``position``."""
    length = int.from_bytes(jpeg[position : position + 2], "big")
    if length < 2 or position + length > len(jpeg):
        raise BadImage("corrupt", "The JPEG is cut off in its header")
    return jpeg[position + 2 : position + length]


def _orientation(tiff: bytes) -> int:
    """EXIF orientation in a TIFF block; 1 where it has none or is damaged, as viewers do."""
    order: dict[bytes, str] = {b"II": "little", b"MM": "big"}
    if len(tiff) < _TIFF_HEADER_BYTES or tiff[:2] not in order:
        return 1
    little = order[tiff[:2]] == "little"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], "little" if little else "big")

    directory = number(4, 4)
    for entry in range(number(directory, 2)):
        at = directory + 2 + entry * _IFD_ENTRY_BYTES
        if at + _IFD_ENTRY_BYTES > len(tiff):
            break
        if number(at, 2) == _ORIENTATION_TAG:
            value = number(at + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
