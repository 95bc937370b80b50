"""How windows are moved and lit."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.augment import AUGMENTATIONS, Augmentation, augment

pytestmark = pytest.mark.training

NONE, PAPER, DEFAULT = (AUGMENTATIONS[name] for name in ("none", "paper", "default"))


def seeded(seed: int) -> torch.Generator:
    """Make a generator."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def still() -> Tensor:
    """Eight windows of noise, uint8 [8, 5, 48, 48], whose five frames are equal."""
    return torch.randint(0, 256, (8, 1, 48, 48), generator=seeded(0)).to(torch.uint8).expand(-1, 5, -1, -1)


@pytest.mark.parametrize("how", [PAPER, replace(PAPER, gain=0.2, gamma=0.3)])
def test_all_frames_of_a_window_change_alike(still: Tensor, how: Augmentation) -> None:
    """Five equal frames stay equal, while the windows change each in its own way."""
    made = augment(still, how, seeded(1))
    assert made.dtype == torch.float32
    assert made.shape == (8, 5, 48, 48)
    assert torch.equal(made, made[:, :1].expand(-1, 5, -1, -1))
    assert not torch.equal(made, still.float())


def test_each_window_changes_in_its_own_way(still: Tensor) -> None:
    """Eight equal windows come out different."""
    made = augment(still[:1].expand(8, -1, -1, -1), PAPER, seeded(2))
    assert len({window.numpy().tobytes() for window in made}) == 8


def test_none_changes_nothing(still: Tensor) -> None:
    """With every range at zero a window is itself."""
    torch.testing.assert_close(augment(still, NONE, seeded(3)), still.float(), atol=1, rtol=0)


def test_a_flip_mirrors_left_and_right(still: Tensor) -> None:
    """With the flip alone a window is itself or its mirror image, and both come up."""
    made = augment(still, replace(NONE, flip=True), seeded(4))
    kept = ((made - still.float()).abs() <= 1).flatten(1).all(dim=1)
    mirrored = ((made - still.float().flip(-1)).abs() <= 1).flatten(1).all(dim=1)
    assert (kept | mirrored).all()
    assert kept.any()
    assert mirrored.any()


def test_a_shift_is_a_share_of_the_width() -> None:
    """A bright column moves by at most a tenth of 48 pixels, and at least one window moves it by more than two."""
    window = torch.zeros(32, 5, 48, 48, dtype=torch.uint8)
    window[..., 24] = 255
    made = augment(window, replace(NONE, shift=0.1), seeded(5))
    places = made[:, 0, 24].argmax(dim=1)
    assert (places - 24).abs().max() <= 5
    assert (places - 24).abs().max() > 2


def test_the_default_adds_noise_of_its_own_to_each_frame(still: Tensor) -> None:
    """Noise is the sensor's, so five equal frames differ, in whole gray levels."""
    made = augment(still, DEFAULT, seeded(6))
    assert not torch.equal(made[:, 0], made[:, 1])
    assert torch.equal(made, made.to(torch.uint8).float())


def test_the_seed_decides(still: Tensor) -> None:
    """The same seed gives the same windows and another seed gives others."""
    first = augment(still, DEFAULT, seeded(7))
    assert torch.equal(first, augment(still, DEFAULT, seeded(7)))
    assert not torch.equal(first, augment(still, DEFAULT, seeded(8)))
