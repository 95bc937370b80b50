"""Windows made of single pictures."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.datasets.motion import Motion, windows

pytestmark = pytest.mark.training

STILL = Motion(
    rotation_deg=0,
    shift_px=0,
    zoom=0,
    gain=0,
    gamma=0,
    noise_share=0,
    blur_share=0,
    occlusion_share=0,
    static_share=0,
)


def seeded(seed: int) -> torch.Generator:
    """Make a generator."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures() -> Tensor:
    """Smooth slopes uint8 [16, 48, 48], each steeper than the last."""
    slope = torch.linspace(20, 200, 48)
    return torch.stack([slope.expand(48, 48) * (index + 4) / 20 for index in range(16)]).to(torch.uint8)


def test_windows_hold_gray_levels(pictures: Tensor) -> None:
    """Sixteen pictures give float [16, 5, 48, 48] of whole levels in 0..255, as a camera does."""
    made = windows(pictures, Motion(), seeded(0))
    assert made.shape == (16, 5, 48, 48)
    assert made.dtype == torch.float32
    assert torch.equal(made, made.to(torch.uint8).float())


def test_the_seed_decides(pictures: Tensor) -> None:
    """The same seed gives the same windows and another seed gives others."""
    first = windows(pictures, Motion(), seeded(1))
    assert torch.equal(first, windows(pictures, Motion(), seeded(1)))
    assert not torch.equal(first, windows(pictures, Motion(), seeded(2)))


def test_a_share_of_the_windows_stands_still(pictures: Tensor) -> None:
    """A quarter of static windows means four of sixteen with five equal frames, and twelve that move."""
    made = windows(pictures, replace(Motion(), static_share=0.25), seeded(3))
    still = (made == made[:, :1]).flatten(1).all(dim=1)
    assert still.tolist() == [True] * 4 + [False] * 12


def test_without_motion_a_picture_is_kept_or_mirrored(pictures: Tensor) -> None:
    """With every range at zero a frame is the picture itself, or its mirror image, in all five frames."""
    made = windows(pictures, STILL, seeded(4))
    picture = pictures.float()[:, None]
    kept = ((made - picture).abs() <= 1).flatten(1).all(dim=1)
    mirrored = ((made - picture.flip(-1)).abs() <= 1).flatten(1).all(dim=1)
    assert (kept | mirrored).all()
    assert kept.any()
    assert mirrored.any()


def test_a_shift_moves_by_pixels(pictures: Tensor) -> None:
    """A shift range of 2 pixels moves a slope's levels by at most what the slope rises over 2 pixels."""
    made = windows(pictures, replace(STILL, shift_px=2.0, jitter=0.0, drift=0.0), seeded(5))
    picture = pictures.float()[:, None]
    nearest = torch.minimum((made - picture).abs(), (made - picture.flip(-1)).abs()).amax(dim=(1, 2, 3))
    rise_per_pixel = (pictures[:, 0, -1].float() - pictures[:, 0, 0].float()) / 47
    assert (nearest <= 2 * rise_per_pixel + 2).all()
    assert (nearest > 0).any()


def test_a_drift_goes_one_way() -> None:
    """Light that drifts without jitter rises or falls through all five frames."""
    gray = torch.full((8, 48, 48), 128, dtype=torch.uint8)
    made = windows(gray, replace(STILL, gain=0.5, drift=1.0, jitter=0.0), seeded(6))
    steps = made.mean(dim=(2, 3)).diff(dim=1)
    assert ((steps >= 0).all(dim=1) | (steps <= 0).all(dim=1)).all()


def test_a_share_of_the_boxes_shakes() -> None:
    """In about the share of the windows frames jump by some pixels and back; the others hold still."""
    dot = torch.zeros(64, 48, 48, dtype=torch.uint8)
    dot[:, 23:25, 23:25] = 255
    made = windows(dot, replace(STILL, shift_px=1e-3, shaken_share=0.5), seeded(0))
    places = (made * torch.arange(48)).sum(dim=(2, 3)) / made.sum(dim=(2, 3))
    most = (places - 23.5).abs().amax(dim=1)
    assert 0.3 < (most > 0.1).float().mean() < 0.7
    assert 3 < most.max() <= 6
