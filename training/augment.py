"""Move and light a window as one: all five frames are turned, shifted, zoomed, mirrored and lit alike."""

from dataclasses import dataclass
from math import radians

import torch
from torch import Tensor
from torch.nn import functional

from training.config import AugmentationName


@dataclass(frozen=True)
class Augmentation:
    """Ranges of a uniform spread to either side of the window as it is.

    The paper names rotation, width and height shift, zoom and horizontal flip, but no range: these are those of the
    mini-Xception's own training (Arriaga et al. 2017). `shift` is a share of the width and height, `gain` and `gamma`
    are natural logarithms, `noise_gray_levels` is the largest standard deviation of noise, new in each frame.
    """

    rotation_deg: float = 10.0
    shift: float = 0.1
    zoom: float = 0.1
    flip: bool = True
    gain: float = 0.0
    gamma: float = 0.0
    noise_gray_levels: float = 0.0


AUGMENTATIONS: dict[AugmentationName, Augmentation] = {
    "paper": Augmentation(),
    "default": Augmentation(gain=0.15, gamma=0.25, noise_gray_levels=4.0),
    "none": Augmentation(rotation_deg=0, shift=0, zoom=0, flip=False),
}


def augment(windows: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Change windows uint8 [n, 5, 48, 48] into float32 of whole gray levels 0..255, of the same shape.

    The same state of the generator, which must be on the windows' device, gives the same windows.
    """
    matrices = _matrices(len(windows), how, generator)
    grid = functional.affine_grid(matrices, list(windows.shape), align_corners=False)
    # Frames are channels here, so one grid moves them all. Beyond the border its pixels are repeated, as in the crop.
    out = functional.grid_sample(windows.float(), grid, padding_mode="border", align_corners=False)
    if how.gain or how.gamma:
        out = _light(out, how, generator)
    if how.noise_gray_levels:
        level = _uniform(len(out), generator).abs() * how.noise_gray_levels
        out = out + level[:, None, None, None] * torch.randn(out.shape, generator=generator, device=out.device)
    return out.round_().clamp_(0, 255)


def _matrices(n: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Matrices [n, 2, 3] from output to input coordinates (both -1..1)."""
    turn = _uniform(n, generator) * radians(how.rotation_deg)
    # Coordinates span 2, so a share of the width is twice as much in them.
    right, down = 2 * how.shift * _uniform(n, generator), 2 * how.shift * _uniform(n, generator)
    scale = 1 + how.zoom * _uniform(n, generator)
    side = torch.ones_like(turn)
    if how.flip:
        side = torch.randint(0, 2, (n,), generator=generator, device=generator.device) * 2.0 - 1
    cos, sin = turn.cos() * scale, turn.sin() * scale
    return torch.stack([side * cos, -sin, right, side * sin, cos, down], dim=-1).view(n, 2, 3)


def _light(windows: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    gain, gamma = (_uniform(len(windows), generator)[:, None, None, None] for _ in range(2))
    exponent, factor = (how.gamma * gamma).exp(), (how.gain * gain).exp()
    return windows.div(255).clamp_(min=1e-3).pow(exponent) * (255 * factor)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    """Draw n numbers in -1..1."""
    return torch.rand(n, generator=generator, device=generator.device) * 2 - 1
