import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.vision.quality import crop_quality


@pytest.fixture
def crop() -> NDArray[np.uint8]:
    """A face of 48x48 pixels, neither dark nor bright."""
    face = cv2.cvtColor(data.astronaut()[60:220, 140:300], cv2.COLOR_RGB2GRAY)
    small = cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA)
    return np.asarray(60 + small // 2, np.uint8)


@pytest.mark.parametrize(("level", "brightness"), [(0, 0.0), (51, 0.2), (255, 1.0)])
def test_flat(level: int, brightness: float) -> None:
    """A flat crop has its own brightness and no sharpness."""
    quality = crop_quality(np.full((48, 48), level, np.uint8))
    assert quality.brightness == pytest.approx(brightness)
    assert quality.sharpness == 0


def test_brightness_is_the_mean(crop: NDArray[np.uint8]) -> None:
    """Brightness is the mean gray level as a share of white."""
    assert crop_quality(crop).brightness == pytest.approx(crop.mean() / 255)


def test_blur(crop: NDArray[np.uint8]) -> None:
    """The more a crop is blurred the less sharp it is."""
    sharpness = [crop_quality(crop).sharpness]
    sharpness += [crop_quality(cv2.GaussianBlur(crop, (0, 0), sigma)).sharpness for sigma in (0.7, 1.5, 3.0)]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > 10 * sharpness[-1] > 0


def test_contrast_and_light(crop: NDArray[np.uint8]) -> None:
    """Half the contrast in other light is as sharp as before, to within rounding of gray levels."""
    dim = np.asarray(crop // 2 + 20, np.uint8)
    assert crop_quality(dim).sharpness == pytest.approx(crop_quality(crop).sharpness, rel=0.05)


def test_noise() -> None:
    """Noise is sharper than 1, which no face is."""
    noise = np.random.default_rng(1).integers(0, 256, (48, 48)).astype(np.uint8)
    assert crop_quality(noise).sharpness > 1


def test_definition(crop: NDArray[np.uint8]) -> None:
    """Sharpness is the variance of the Laplacian over the variance of the crop, as the protocol's page says."""
    expected = cv2.Laplacian(crop, cv2.CV_64F).var() / crop.var()
    assert crop_quality(crop).sharpness == pytest.approx(expected, rel=1e-5)
