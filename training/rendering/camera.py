"""What a camera does to a picture: blur, noise, JPEG; and what comes between it and the face."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.crop import crop_whole
from training.rendering.geometry import Floats


@dataclass(frozen=True)
class Camera:
    """How pictures of one clip are spoilt.

    ``blur_px`` and ``noise_levels`` are standard deviations at 96 pixels' side. ``box`` (x, y, width, height, gray), a
    hand or hair or the edge of another picture, hides part of the face; width 0 is none. ``jpeg_quality`` 0 is none.
    """

    blur_px: float = 0.0
    noise_levels: float = 0.0
    jpeg_quality: int = 0
    box: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)

    def shoot(self, picture: Floats, chance: np.random.Generator) -> NDArray[np.uint8]:
        """Spoil a picture float32 [96, 96] in 0..255 and shrink it as the service does, to uint8 [48, 48]."""
        x, y, width, height, gray = self.box
        if width:
            picture[y : y + height, x : x + width] = gray
        if self.blur_px:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self.blur_px), np.float32)
        if self.noise_levels:
            picture = picture + self.noise_levels * chance.standard_normal(picture.shape, np.float32)
        levels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        if self.jpeg_quality:
            _, coded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
            levels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
        return crop_whole(levels)


def random_camera(side: int, chance: np.random.Generator) -> Camera:
    """Draw a camera: half blur, half have noise, most code as JPEG, and one clip in ten is partly hidden."""
    blur = chance.uniform(0.4, 1.6) if chance.random() < 0.5 else 0.0
    noise = chance.uniform(1, 9) if chance.random() < 0.5 else 0.0
    quality = int(chance.integers(35, 96)) if chance.random() < 0.8 else 0
    box = (0, 0, 0, 0, 0)
    if chance.random() < 0.1:
        x, y = chance.integers(0, side, 2)
        width, height = chance.integers(8, side // 3, 2)
        box = (int(x), int(y), int(width), int(height), int(chance.integers(0, 256)))
    return Camera(blur, noise, quality, box)
