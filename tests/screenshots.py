"""Pictures of the page for the documentation: ``make screenshots``.

A real service and a real Chromium, whose camera shows the astronaut picture (NASA, public domain). A sheet of paper is
held before it, so that there is something to see over time: the network takes a smile that is covered for other looks.
"""

import io
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from loadtest.clips import FRAMES_PER_S, encoded
from service.settings import Settings
from tests.chromium import Page, chromium
from tests.conftest import serving

WEB = Path(str(files("service"))) / "web"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOST_BYTES = 200_000

PAPER = (226, 222, 212)
# Seconds, and where the sheet's upper edge then is, in heights of the face's box from its top.
SHEET = (
    (0, 1.8),
    (3, 1.8),
    (4, 0.62),
    (5.5, 0.6),
    (6, 0.5),
    (9, 0.5),
    (10, 1.8),
    (12, 1.8),
    (13, -1),
    (14, -1),
    (15, 1.8),
)

DESKTOP: dict[str, Any] = {"width": 1280, "height": 1050}
PHONE: dict[str, Any] = {"width": 390, "height": 844, "scale": 1.5, "touch": True}
SHOTS: dict[str, dict[str, Any]] = {
    "page": DESKTOP,
    "page-light": DESKTOP,
    "page-dark": {**DESKTOP, "colour_scheme": "dark"},
    "page-phone": PHONE,
    "page-word": {"width": 800, "height": 450, "colour_scheme": "dark"},
}


def camera() -> Iterator[NDArray[np.uint8]]:
    """Fifteen seconds of RGB frames [480, 640, 3] that can be repeated: a face that sways, and the sheet."""
    picture = data.astronaut()  # type: ignore[no-untyped-call] # scikit-image has not typed it
    zoom, (top, height) = 1.7, (60, 110)
    length_s = SHEET[-1][0]
    for time_s in np.arange(0, length_s, 1 / FRAMES_PER_S):
        phase = 2 * np.pi * time_s / length_s
        right, down = -70 + 25 * np.sin(2 * phase), -22 + 8 * np.cos(3 * phase)
        frame = cv2.warpAffine(picture, np.array([[zoom, 0, right], [0, zoom, down]]), (640, 480))
        edge = down + zoom * (top + height * np.interp(time_s, *zip(*SHEET, strict=True)))
        sheet = np.array([[120, edge], [560, edge + 14], [580, 900], [100, 900]]).round().astype(np.int32)
        yield np.asarray(cv2.fillPoly(frame, [sheet], PAPER, cv2.LINE_AA), np.uint8)


def pause(page: Page, seconds: float) -> None:
    page.run(f"new Promise((done) => setTimeout(done, {1000 * seconds}))")


def portrait(page: Page, word: str, *, whole: bool) -> bytes:
    """A picture of the tab, taken amid a smile that ``word``, the id of an element, tells too."""
    while True:
        # Until what has changed with the screen is drawn.
        pause(page, 1.5)
        page.when("s.prediction?.faces[0].smoothed?.happy > 0.99")
        before = page.text(word)
        png = page.screenshot(whole=whole)
        pause(page, 0.8)
        if before == page.text(word) == "happy":
            return png


def small_png(png: bytes) -> bytes:
    """The same picture in 256 colours, those that the page names among them."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    named = "".join((WEB / part).read_text() for part in ("palette.js", "style.css"))
    own = {b"\xff\xff\xff", *map(bytes.fromhex, re.findall(r"#([0-9a-f]{6})\b", named))}
    common = picture.quantize(256 - len(own)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common[: 3 * (256 - len(own))], *b"".join(sorted(own))])
    small = io.BytesIO()
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def main(seconds: int = 36) -> None:
    """Write all of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Settings(port=0)) as server,
        chromium(Path(folder), encoded(camera())) as browser,
        browser.page(server.url + "/") as page,
    ):
        page.emulate(**DESKTOP)
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.press("toggle")
        pause(page, seconds)
        for name, screen in SHOTS.items():
            page.emulate(**screen)
            if name == "page-word":
                page.press("word-open")
            word = "big-word" if name == "page-word" else "word"
            png = small_png(portrait(page, word, whole=name == "page-light"))
            if len(png) > MOST_BYTES:
                sys.exit(f"{name}.png has {len(png)} bytes, over {MOST_BYTES}")
            (IMAGES / f"{name}.png").write_bytes(png)


if __name__ == "__main__":
    main()
