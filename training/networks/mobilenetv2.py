"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2) at width 1.0 on a window of frames (Lee & Wong 2020).

The frames of a window are the channels of the first convolution, as in the other TimeConvNets.
"""

from itertools import chain
from typing import NamedTuple

from torch import Tensor, nn

from training.networks.layers import normed, start_as_he

STEM, LAST = 32, 1280


class Stage(NamedTuple):
    """A row of the source's table 2: `repeats` blocks, of which the first has the `stride`."""

    expansion: int
    channels: int
    repeats: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


def _active(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [*normed(convolution, channels), nn.ReLU6(inplace=True)]


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow: [n, inputs, h, w] to [n, outputs, h/stride, w/stride], rounded up."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        """Build; an `expansion` of 1 leaves the widening out."""
        super().__init__()
        wide = inputs * expansion
        widen = _active(nn.Conv2d(inputs, wide, 1, bias=False), wide) if expansion > 1 else []
        self.main = nn.Sequential(
            *widen,
            *_active(nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False), wide),
            *normed(nn.Conv2d(wide, outputs, 1, bias=False), outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """Add the input where it has the output's shape; no activation follows the narrow map."""
        out: Tensor = self.main(maps)
        return maps + out if self.adds else out


def _stage(inputs: int, stage: Stage) -> list[nn.Module]:
    first = InvertedResidual(inputs, stage.channels, stage.stride, stage.expansion)
    others = [InvertedResidual(stage.channels, stage.channels, 1, stage.expansion) for _ in range(1, stage.repeats)]
    return [first, *others]


class MobileNetV2(nn.Module):
    """Windows float [n, frames, 48, 48] in 0..1 to logits float [n, classes]."""

    def __init__(self, frames: int = 5, classes: int = 7) -> None:
        """Build with the source's five halvings: maps of 48 pixels end at 2."""
        super().__init__()
        widths = (STEM, *(stage.channels for stage in STAGES))
        blocks = chain.from_iterable(_stage(inputs, stage) for inputs, stage in zip(widths, STAGES, strict=False))
        self.stem = nn.Sequential(*_active(nn.Conv2d(frames, STEM, 3, 2, padding=1, bias=False), STEM))
        self.body = nn.Sequential(*blocks, *_active(nn.Conv2d(widths[-1], LAST, 1, bias=False), LAST))
        self.head = nn.Linear(LAST, classes)
        start_as_he(self)

    def forward(self, window: Tensor) -> Tensor:
        """Average the last map over all its places and score that."""
        logits: Tensor = self.head(self.body(self.stem(window)).mean(dim=(2, 3)))
        return logits
