"""Windows of five frames made of single pictures, moved as head and camera move.

There is no openly licensed, labelled video of facial expression, so the motion is made: a pose and a light that drift
smoothly through the window, with a small jitter from frame to frame as a face detector's box has. The face's own motion
(the expression itself rising and falling) cannot be made this way.
"""

from dataclasses import dataclass
from math import radians

import torch
from torch import Tensor
from torch.nn import functional

from training.datasets import FRAMES

BINOMIAL_3X3 = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


@dataclass(frozen=True)
class Motion:
    """How far things move. Ranges are of a uniform spread to either side around the picture as it is.

    `drift` and `jitter` are parts of the same ranges: what changes over a whole window, and at random in each frame
    (one standard deviation). A `shaken_share` of the moving windows has a box that shakes, too: each frame is shifted
    anew by up to `shake_px` pixels, in some windows more and in some less. A `static_share` of the windows shows one
    and the same frame five times: a still face is common in life, and is what evaluation on single pictures feeds.
    """

    rotation_deg: float = 10.0
    shift_px: float = 3.0
    zoom: float = 0.1
    gain: float = 0.15
    gamma: float = 0.25
    drift: float = 0.5
    jitter: float = 0.08
    shaken_share: float = 0.0
    shake_px: float = 6.0
    noise_share: float = 0.25
    noise_gray_levels: float = 6.0
    blur_share: float = 0.1
    occlusion_share: float = 0.1
    occlusion_px: int = 16
    static_share: float = 0.5


def windows(pictures: Tensor, motion: Motion, generator: torch.Generator) -> Tensor:
    """Move pictures uint8 [n, 48, 48] into windows float32 [n, 5, 48, 48] of whole gray levels 0..255.

    Levels are rounded as a camera's are, so training sees what serving sees. The same generator state gives the same
    windows.
    """
    n_static = round(motion.static_share * len(pictures))
    # Which pictures are static is left to the caller's shuffling: here it is the first ones.
    parts = [(pictures[:n_static], 1), (pictures[n_static:], FRAMES)]
    rendered = [_render(part, motion, frames, generator) for part, frames in parts if len(part)]
    return torch.cat([frames.expand(-1, FRAMES, -1, -1) for frames in rendered])


def _render(pictures: Tensor, motion: Motion, frames: int, generator: torch.Generator) -> Tensor:
    n, size = len(pictures), pictures.shape[-1]
    path = _paths(n, frames, motion, generator)
    source = pictures.float().div(255)[:, None].expand(-1, frames, -1, -1).reshape(n * frames, 1, size, size)
    matrices = _affine(path, size, generator).flatten(0, 1)
    grid = functional.affine_grid(matrices, [n * frames, 1, size, size], align_corners=False)
    # Outside the picture its edge is repeated, as the service's crop does at the border of a frame.
    moved = functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    out = moved.view(n, frames, size, size)
    gain, gamma = path[..., 4, None, None].exp(), path[..., 5, None, None].exp()
    out = out.clamp_(min=1e-3).pow(gamma).mul_(255 * gain)
    _blur(out, motion, generator)
    _occlude(out, motion, generator)
    _add_noise(out, motion, generator)
    return out.round_().clamp_(0, 255)


def _paths(n: int, frames: int, motion: Motion, generator: torch.Generator) -> Tensor:
    """Pose and light [n, frames, 6]: rotation (rad), shift x and y (pixels), log zoom, log gain, log gamma."""
    device = generator.device
    spans = (radians(motion.rotation_deg), motion.shift_px, motion.shift_px, motion.zoom, motion.gain, motion.gamma)
    place, slope = torch.rand(2, n, 1, len(spans), generator=generator, device=device).mul_(2).sub_(1)
    if frames > 1:
        time = torch.linspace(-0.5, 0.5, frames, device=device)[None, :, None]
        jitter = torch.randn(n, frames, len(spans), generator=generator, device=device)
        place = place + motion.drift * slope * time + motion.jitter * jitter
    path: Tensor = place * torch.tensor(spans, device=device)
    if frames > 1 and motion.shaken_share:
        rows = _chosen(n, motion.shaken_share, generator)
        # How much a box shakes differs from window to window.
        most = motion.shake_px * torch.rand(len(rows), 1, 1, generator=generator, device=device)
        shaken = torch.rand(len(rows), frames, 2, generator=generator, device=device).mul_(2).sub_(1)
        path[rows, :, 1:3] += most * shaken
    return path


def _affine(path: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Matrices [n, frames, 2, 3] from output to input coordinates (both -1..1); half the windows are mirrored."""
    turn, scale = path[..., 0], path[..., 3].exp()
    flip = torch.randint(0, 2, (len(path), 1), generator=generator, device=path.device) * 2 - 1
    cos, sin, shift = turn.cos() * scale, turn.sin() * scale, path[..., 1:3] * (2 / size)
    entries = torch.stack([flip * cos, -sin, shift[..., 0], flip * sin, cos, shift[..., 1]], dim=-1)
    return entries.view(*entries.shape[:2], 2, 3)


def _chosen(n: int, share: float, generator: torch.Generator) -> Tensor:
    """Draw a random `share` of n windows, as indices."""
    return (torch.rand(n, generator=generator, device=generator.device) < share).nonzero()[:, 0]


def _blur(out: Tensor, motion: Motion, generator: torch.Generator) -> None:
    rows = _chosen(len(out), motion.blur_share, generator)
    frames = out.shape[1]
    kernel = BINOMIAL_3X3.to(out.device).expand(frames, 1, 3, 3)
    padded = functional.pad(out[rows], (1, 1, 1, 1), mode="replicate")
    out[rows] = functional.conv2d(padded, kernel, groups=frames)


def _occlude(out: Tensor, motion: Motion, generator: torch.Generator) -> None:
    """Put a gray box, as a hand or hair would, at one place in all frames of the window."""
    rows = _chosen(len(out), motion.occlusion_share, generator)
    size, device = out.shape[-1], out.device
    start = torch.rand(2, len(rows), 1, generator=generator, device=device) * size
    extent = torch.rand(2, len(rows), 1, generator=generator, device=device) * motion.occlusion_px
    pixel = torch.arange(size, device=device)
    in_y, in_x = (pixel >= start) & (pixel < start + extent)
    box = (in_y[:, :, None] & in_x[:, None, :])[:, None]
    gray = torch.rand(len(rows), 1, 1, 1, generator=generator, device=device) * 255
    out[rows] = torch.where(box, gray, out[rows])


def _add_noise(out: Tensor, motion: Motion, generator: torch.Generator) -> None:
    rows = _chosen(len(out), motion.noise_share, generator)
    noise = torch.randn(out[rows].shape, generator=generator, device=out.device)
    level = torch.rand(len(rows), 1, 1, 1, generator=generator, device=out.device) * motion.noise_gray_levels
    out[rows] = out[rows] + noise * level
