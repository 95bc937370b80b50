import io
import struct
import time
import tracemalloc

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from service.errors import BadImage, ImageTooLarge
from service.vision.decode import JpegHeader, decode_gray, read_header, upright

MAX_BYTES, MAX_PIXELS = 2_000_000, 4_200_000

WIDTH, HEIGHT = 96, 64
PICTURE = np.add.outer(np.arange(HEIGHT), 1.5 * np.arange(WIDTH)).astype(np.uint8)
"""Every corner has its own gray level: 0, 142, 63 and 205."""

# Where the four corners of the stored picture lie once it is upright, by EXIF orientation: CIPA DC-008, 4.6.4 names the
# sides that row 0 and column 0 of the stored picture show. Read so, without the code under test.
ROW_AND_COLUMN_0 = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def encoded(picture: NDArray[np.uint8] = PICTURE, **options: object) -> bytes:
    """The picture as a gray JPEG."""
    return bytes(simplejpeg.encode_jpeg(picture[:, :, np.newaxis], quality=95, colorspace="GRAY", **options))


def encoded_by_opencv(picture: NDArray[np.uint8], *parameters: int) -> bytes:
    """The picture as a JPEG of the kind that the parameters ask for."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95, *parameters])[1].tobytes()


def decoded(jpeg: bytes) -> NDArray[np.uint8]:
    """The picture of a JPEG, with the default limits."""
    return decode_gray(jpeg, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)


def reason_or_size(jpeg: bytes) -> str | int:
    """Why a JPEG is refused, or the pixels it decodes to, which are as many as its header says."""
    try:
        header = read_header(jpeg)
        pixels = decoded(jpeg).size
    except BadImage as error:
        return error.reason
    assert header.width * header.height == pixels
    return pixels


def segment(marker: int, content: bytes) -> bytes:
    """A marker with its length and content."""
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def frame_header(width: int, height: int, *, marker: int = 0xC0, components: int = 1) -> bytes:
    """A start of frame that gives a size."""
    content = struct.pack(">BHHB", 8, height, width, components)
    return segment(marker, content + b"".join(bytes((index + 1, 0x11, 0)) for index in range(components)))


def exif(orientation: int, *, order: str = "<", entries_before: int = 0) -> bytes:
    """An APP1 segment whose directory holds other tags first."""
    other = struct.pack(order + "HHII", 0x010F, 4, 1, 0)
    tag = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    directory = struct.pack(order + "H", entries_before + 1) + other * entries_before + tag + bytes(4)
    mark = b"II" if order == "<" else b"MM"
    return segment(0xE1, b"Exif\0\0" + mark + struct.pack(order + "HI", 42, 8) + directory)


def with_segment(jpeg: bytes, extra: bytes) -> bytes:
    """The JPEG with a segment right behind its start."""
    return jpeg[:2] + extra + jpeg[2:]


def stored_for(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What a camera stores so that ``orientation`` makes ``picture`` of it, by the standard's table."""
    row_0, column_0 = ROW_AND_COLUMN_0[orientation]
    along_rows = picture if row_0 in ("top", "bottom") else picture.T
    if row_0 in ("bottom", "right"):
        along_rows = along_rows[::-1]
    if column_0 in ("right", "bottom"):
        along_rows = along_rows[:, ::-1]
    return np.ascontiguousarray(along_rows)


def progressive_bomb(scans: int, side: int = 2048) -> bytes:
    """A valid, plain gray progressive JPEG of many passes: each takes some twenty bytes and changes no block."""
    blocks = (side // 8) ** 2
    tables = segment(0xDB, bytes([0] + [1] * 64))
    tables += segment(0xC4, bytes([0x00, 1] + [0] * 15 + [0])) + segment(0xC4, bytes([0x10, 1] + [0] * 15 + [0xE0]))
    runs = -(-blocks // 32_767)  # One code and 14 bits skip the spectral band of 32,767 blocks.
    bits = ("0" + "1" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    nothing = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(blocks // 8)
    more = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + nothing
    header = frame_header(side, side, marker=0xC2)
    return b"\xff\xd8" + tables + header + first + more * (scans - 1) + b"\xff\xd9"


GRAY = encoded()
COLOR_PICTURE = cv2.merge([PICTURE, 255 - PICTURE, PICTURE // 2])
KINDS = {
    "gray": GRAY,
    "4:2:0": encoded_by_opencv(COLOR_PICTURE),
    "4:4:4": encoded_by_opencv(COLOR_PICTURE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111),
    "4:2:2": encoded_by_opencv(COLOR_PICTURE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x211111),
    "progressive": encoded_by_opencv(COLOR_PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "progressive gray": encoded_by_opencv(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart markers": encoded_by_opencv(COLOR_PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "EXIF": with_segment(GRAY, exif(1)),
}


class TestReadHeader:
    @pytest.mark.parametrize("kind", KINDS)
    def test_size_of_every_kind(self, kind: str) -> None:
        """Every kind of JPEG an encoder writes gives its size and is upright."""
        assert JpegHeader(WIDTH, HEIGHT, 1) == read_header(KINDS[kind])

    @pytest.mark.parametrize("marker", sorted(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}))
    def test_every_start_of_frame(self, marker: int) -> None:
        """Each of the thirteen frame headers of ITU-T T.81 gives the size, whether or not it can be decoded later."""
        assert JpegHeader(640, 480, 1) == read_header(b"\xff\xd8" + frame_header(640, 480, marker=marker))

    def test_fill_bytes(self) -> None:
        """Fill bytes before a marker are skipped."""
        assert JpegHeader(WIDTH, HEIGHT, 1) == read_header(with_segment(GRAY, b"\xff\xff\xff"))

    def test_picture_within_the_header(self) -> None:
        """The frame header of a thumbnail inside a segment is not taken for the picture's."""
        assert JpegHeader(WIDTH, HEIGHT, 1) == read_header(with_segment(GRAY, segment(0xE2, encoded(PICTURE[:8, :8]))))

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, orientation: int, order: str) -> None:
        """The EXIF orientation is read in both byte orders, behind other tags too."""
        jpeg = with_segment(GRAY, exif(orientation, order=order, entries_before=3))
        assert orientation == read_header(jpeg).orientation

    @pytest.mark.parametrize("orientation", [0, 9, 65_535])
    def test_impossible_orientation(self, orientation: int) -> None:
        """An orientation that does not exist counts as upright, as viewers have it."""
        assert read_header(with_segment(GRAY, exif(orientation))).orientation == 1

    @pytest.mark.parametrize("kept", range(10, 38, 3))
    def test_damaged_exif(self, kept: int) -> None:
        """An EXIF block that is cut off counts as upright and does not cost the picture."""
        block = exif(6, entries_before=1)[4 : 4 + kept]
        assert JpegHeader(WIDTH, HEIGHT, 1) == read_header(with_segment(GRAY, segment(0xE1, block)))

    def test_exif_directory_elsewhere(self) -> None:
        """A directory that points outside of its block counts as none."""
        block = b"Exif\0\0II" + struct.pack("<HI", 42, 0xFFFF_FFF0)
        assert read_header(with_segment(GRAY, segment(0xE1, block))).orientation == 1

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty"),
            (b"\xff", "not_jpeg"),
            (b"hello, this is text", "not_jpeg"),
            (cv2.imencode(".png", PICTURE)[1].tobytes(), "not_jpeg"),
            (b"\xff\xd8", "corrupt"),
            (b"\xff\xd8\xff", "corrupt"),
            (b"\xff\xd8\xff\xff", "corrupt"),
            (b"\xff\xd8\xff\xe0", "corrupt"),
            (b"\xff\xd8\xff\xe0\0\0", "corrupt"),
            (b"\xff\xd8\xff\xe0\0\x10ab", "corrupt"),
            (b"\xff\xd8\xff\xe0\0\0" + frame_header(640, 480), "corrupt"),
            (b"\xff\xd8\xff\xe0\0\x01" + frame_header(640, 480), "corrupt"),
            (b"\xff\xd8\xff\xd9", "corrupt"),
            (b"\xff\xd8" + segment(0xDA, bytes(6)), "corrupt"),
            (b"\xff\xd8" + segment(0xD9, bytes(6)), "corrupt"),
            (b"\xff\xd8" + segment(0xC0, b"\x08\0\x40"), "corrupt"),
            (b"\xff\xd8" + segment(0xE0, b"") + b"junk", "corrupt"),
            (b"\xff\xd8" + frame_header(0, 480), "unsupported"),
            (b"\xff\xd8" + frame_header(640, 0), "unsupported"),
        ],
    )
    def test_reason(self, content: bytes, reason: str) -> None:
        """What is no JPEG with a size is refused with its reason."""
        with pytest.raises(BadImage) as refused:
            read_header(content)
        assert reason == refused.value.reason

    def test_many_markers_at_once(self) -> None:
        """Two megabytes of standalone markers cost less than a second."""
        start_s = time.process_time()
        with pytest.raises(BadImage):
            read_header(b"\xff\xd8" + b"\xff\xd0" * 1_000_000)
        assert time.process_time() - start_s < 1

    def test_many_segments(self) -> None:
        """Before the picture there are at most 256 segments, and no more are looked at."""
        comments = segment(0xFE, b"") * 255
        assert read_header(b"\xff\xd8" + comments + frame_header(640, 480)).width == 640
        with pytest.raises(BadImage, match="more than 256 segments") as refused:
            read_header(b"\xff\xd8" + comments + segment(0xFE, b"") + frame_header(640, 480))
        assert refused.value.reason == "unsupported"

    def test_long_fill(self) -> None:
        """A long row of fill bytes is damage."""
        with pytest.raises(BadImage) as refused:
            read_header(b"\xff\xd8" + b"\xff" * 1000 + frame_header(640, 480))
        assert refused.value.reason == "corrupt"


class TestDecodeGray:
    @pytest.mark.parametrize("kind", ["gray", "progressive gray", "EXIF"])
    def test_gray(self, kind: str) -> None:
        """A gray JPEG decodes to its pixels, to within three levels of the encoder's loss."""
        gray = decoded(KINDS[kind])
        assert gray.dtype == np.uint8
        assert gray.shape == (HEIGHT, WIDTH)
        np.testing.assert_allclose(gray.astype(int), PICTURE.astype(int), atol=3)

    @pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "4:2:2", "progressive", "restart markers"])
    def test_color(self, kind: str) -> None:
        """A colour JPEG decodes to its luma, as OpenCV's conversion has it."""
        expected = cv2.cvtColor(COLOR_PICTURE, cv2.COLOR_BGR2GRAY).astype(int)
        np.testing.assert_allclose(decoded(KINDS[kind]).astype(int), expected, atol=4)

    def test_cmyk(self) -> None:
        """A CMYK JPEG, as Adobe's programs write it (inverted), decodes to the gray that it shows."""
        file = io.BytesIO()
        Image.fromarray(PICTURE).convert("CMYK").save(file, "JPEG", quality=95)
        assert read_header(file.getvalue()) == JpegHeader(WIDTH, HEIGHT, 1)
        np.testing.assert_allclose(decoded(file.getvalue()).astype(int), PICTURE.astype(int), atol=4)

    @pytest.mark.parametrize("marker", sorted(set(range(0xC0, 0xD0)) - {0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xCC}))
    def test_kind_that_cannot_be_decoded(self, marker: int) -> None:
        """Lossless, hierarchical and mislabelled arithmetic JPEGs are refused as bad images."""
        at = GRAY.index(b"\xff\xc0")
        with pytest.raises(BadImage) as refused:
            decoded(GRAY[: at + 1] + bytes([marker]) + GRAY[at + 2 :])
        assert refused.value.reason == "corrupt"

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright(self, orientation: int) -> None:
        """Each EXIF orientation gives the picture as the standard says that it is to be seen."""
        stored = encoded(stored_for(PICTURE, orientation))
        gray = decoded(with_segment(stored, exif(orientation)))
        assert gray.shape == PICTURE.shape
        assert gray.flags.c_contiguous
        np.testing.assert_allclose(gray.astype(int), PICTURE.astype(int), atol=3)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_of_opencv(self, orientation: int) -> None:
        """A rotated picture comes out as OpenCV, which knows EXIF itself, shows it."""
        jpeg = with_segment(encoded(data.camera()[:120, :160]), exif(orientation))
        theirs = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_allclose(decoded(jpeg).astype(int), theirs.astype(int), atol=2)

    def test_too_many_bytes(self) -> None:
        """A file over the limit of bytes is refused before it is read; at the limit it is taken."""
        with pytest.raises(ImageTooLarge) as refused:
            decode_gray(GRAY, max_bytes=len(GRAY) - 1, max_pixels=MAX_PIXELS)
        assert refused.value.reason == "too_large"
        assert decode_gray(GRAY, max_bytes=len(GRAY), max_pixels=MAX_PIXELS).shape == PICTURE.shape

    def test_too_many_pixels(self) -> None:
        """A picture over the limit of pixels is refused; at the limit it is taken."""
        with pytest.raises(ImageTooLarge, match=f"{WIDTH}x{HEIGHT}") as refused:
            decode_gray(GRAY, max_bytes=MAX_BYTES, max_pixels=WIDTH * HEIGHT - 1)
        assert refused.value.reason == "too_large"
        assert decode_gray(GRAY, max_bytes=MAX_BYTES, max_pixels=WIDTH * HEIGHT).shape == PICTURE.shape

    def test_made_up_header(self) -> None:
        """A header of 20,000x20,000 is refused without room being made for 400 million pixels."""
        at = GRAY.index(b"\xff\xc0")
        jpeg = GRAY[: at + 5] + struct.pack(">HH", 20_000, 20_000) + GRAY[at + 9 :]
        tracemalloc.start()
        try:
            with pytest.raises(ImageTooLarge, match="20000x20000"):
                decoded(jpeg)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_second_header_behind_a_false_marker(self) -> None:
        """A large header that only the decoder would see, and the limits would not, is refused undecoded."""
        at = GRAY.index(b"\xff\xc0")
        rest = GRAY[at:]
        length = 2 + int.from_bytes(rest[2:4], "big")
        large = rest[:5] + struct.pack(">HH", 16_000, 16_000) + rest[9:length]
        small = rest[:length]
        around_small = b"\xff\xe0" + struct.pack(">H", 2 + len(small))
        # A strict reader takes ff 00 for a marker with a segment; libjpeg takes it for damage and reads what is in it.
        jpeg = GRAY[:at] + segment(0x00, large + around_small) + small + rest[length:]
        assert read_header(jpeg) == JpegHeader(WIDTH, HEIGHT, 1)
        tracemalloc.start()
        try:
            with pytest.raises(BadImage):
                decoded(jpeg)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("kind", ["gray", "4:2:0", "progressive"])
    @pytest.mark.parametrize("quarter", range(4))
    def test_cut_off(self, kind: str, quarter: int) -> None:
        """A JPEG that ends early is refused, wherever it was cut, down to its last two bytes."""
        whole = KINDS[kind]
        cut = whole[: (len(whole) * quarter // 4)] if quarter else whole[:-2]
        with pytest.raises(BadImage) as refused:
            decoded(cut)
        assert refused.value.reason == "corrupt"

    def test_damaged_in_the_middle(self) -> None:
        """A JPEG whose compressed data was overwritten is refused, where OpenCV would show a torn picture."""
        jpeg = bytearray(encoded(data.camera()))
        middle = len(jpeg) // 2
        jpeg[middle : middle + 64] = b"\xff\xff\xff\x01" * 16
        with pytest.raises(BadImage) as refused:
            decoded(bytes(jpeg))
        assert refused.value.reason == "corrupt"
        assert cv2.imdecode(np.frombuffer(bytes(jpeg), np.uint8), cv2.IMREAD_GRAYSCALE) is not None

    @pytest.mark.parametrize("start", [b"", b"\xff\xd8", GRAY[:200]])
    def test_noise(self, start: bytes) -> None:
        """Noise is refused, behind the start of a JPEG too."""
        noise = np.random.default_rng(7).integers(0, 256, 100_000, np.uint8).tobytes()
        with pytest.raises(BadImage):
            decoded(start + noise)

    def test_much_noise(self) -> None:
        """Five megabytes of noise are refused by their size."""
        noise = np.random.default_rng(8).integers(0, 256, 5_000_000, np.uint8).tobytes()
        with pytest.raises(ImageTooLarge):
            decoded(noise)

    def test_many_scans(self) -> None:
        """A progressive JPEG that asks for thousands of passes over its pixels is refused; one of a few is decoded."""
        bomb = progressive_bomb(5000)
        assert len(bomb) < MAX_BYTES
        start_s = time.process_time()
        with pytest.raises(BadImage) as refused:
            decoded(bomb)
        assert time.process_time() - start_s < 0.2
        assert refused.value.reason == "unsupported"
        assert decoded(progressive_bomb(3)).shape == (2048, 2048)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 97), (97, 1), (7, 9), (17, 33)])
    def test_odd_sizes(self, shape: tuple[int, int]) -> None:
        """A picture whose sides are no multiples of a block keeps its size."""
        assert shape == decoded(encoded(np.full(shape, 100, np.uint8))).shape

    def test_own_memory(self) -> None:
        """What is decoded does not share memory with the message."""
        gray = decoded(GRAY)
        gray[:] = 0
        assert decoded(GRAY).any()


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8", GRAY[:20], with_segment(GRAY, exif(6))[:40]]))
@example(b"\0", b"\xff\xd8\xff")
def test_arbitrary_bytes_are_a_bad_image_or_a_picture(content: bytes, start: bytes) -> None:
    """Whatever the bytes are, reading and decoding them raise nothing but a bad image."""
    assert reason_or_size(start + content) in {"empty", "not_jpeg", "corrupt", "unsupported", "too_large"}


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_mutated_jpegs_are_a_bad_image_or_a_picture(kind: str, draw: st.DataObject) -> None:
    """A JPEG with bytes changed, taken out or put in decodes to the size of its header or is a bad image."""
    jpeg = bytearray(KINDS[kind])
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(jpeg) - 1))
        match draw.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                jpeg[at] = draw.draw(st.integers(0, 255))
            case "cut":
                del jpeg[at : at + draw.draw(st.integers(1, 20))]
            case _:
                jpeg[at:at] = draw.draw(st.binary(min_size=1, max_size=20))
    assert reason_or_size(bytes(jpeg))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_exact(orientation: int) -> None:
    """Turning and mirroring move pixels and change none."""
    np.testing.assert_array_equal(upright(stored_for(PICTURE, orientation), orientation), PICTURE)


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_a_picture_can_be_decoded_smaller(shrink: int) -> None:
    """Shrunk while it is decoded, a pixel is the mean of a square of pixels; a last one of fewer is kept."""
    height, width = PICTURE.shape[0] // shrink * shrink, PICTURE.shape[1] // shrink * shrink
    small = decode_gray(GRAY, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS, shrink=shrink)
    whole = decode_gray(GRAY, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)[:height, :width]
    assert small.shape == tuple(-(-side // shrink) for side in PICTURE.shape)
    means = whole.reshape(height // shrink, shrink, width // shrink, shrink).mean(axis=(1, 3))
    assert np.abs(small[: height // shrink, : width // shrink] - means).mean() < 2
