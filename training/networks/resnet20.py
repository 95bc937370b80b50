"""ResNet20 (He et al. 2016, arXiv:1512.03385, section 4.2: the CIFAR form) on a window of frames (Lee & Wong 2020).

The paper's sizes follow from Keras' form of it: every convolution has a bias, also before a batch norm, and a stage
begins with a 1x1 shortcut that has a bias and no batch norm. The blocks know only a `Convolve`, so that the nets on
volumes (`resnet3d`, `resnet2plus1d`) are this one with other convolutions.
"""

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional

from training.networks.layers import BATCH_NORM_EPS, start_as_he

SIDE = 48
BLOCKS = 3
WIDTHS = (16, 32, 64)


class Convolve(Protocol):
    """Makes a convolution that keeps the size of its map ("same" padding), or halves it at `stride` 2."""

    def __call__(self, inputs: int, outputs: int, *, kernel: int, stride: int, side: int) -> nn.Module:
        """Make one for maps of `inputs` channels, `side` high and wide; `kernel` is 3 or 1."""


class Norm(Protocol):
    """Makes a batch norm."""

    def __call__(self, num_features: int, eps: float) -> nn.Module:
        """Make one for maps of `num_features` channels."""


def convolve_planes(inputs: int, outputs: int, *, kernel: int, stride: int, side: int) -> nn.Module:  # noqa: ARG001 - a `Convolve` is told the side
    """Convolve maps [n, inputs, h, w]: the net's own `Convolve`."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, side: int, convolve: Convolve, norm: Norm) -> None:
        """Build for maps `side` high and wide, which `stride` divides."""
        super().__init__()
        self.main = nn.Sequential(
            convolve(inputs, outputs, kernel=3, stride=stride, side=side),
            norm(outputs, eps=BATCH_NORM_EPS),
            nn.ReLU(inplace=True),
            convolve(outputs, outputs, kernel=3, stride=1, side=side // stride),
            norm(outputs, eps=BATCH_NORM_EPS),
        )
        changes = inputs != outputs
        self.shortcut = convolve(inputs, outputs, kernel=1, stride=stride, side=side) if changes else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Add both paths and cut off what is negative."""
        return functional.relu(self.main(maps) + self.shortcut(maps))


class ResNet20(nn.Module):
    """Windows float [n, channels, 48, 48] in 0..1 to logits float [n, classes]."""

    def __init__(
        self,
        channels: int = 5,
        classes: int = 7,
        convolve: Convolve = convolve_planes,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        """Build with the frames of a window as the `channels` of the first convolution: time costs nothing after it."""
        super().__init__()
        self.stem = nn.Sequential(
            convolve(channels, WIDTHS[0], kernel=3, stride=1, side=SIDE),
            norm(WIDTHS[0], eps=BATCH_NORM_EPS),
            nn.ReLU(inplace=True),
        )
        self.body = nn.Sequential()
        inputs, side = WIDTHS[0], SIDE
        for outputs in WIDTHS:
            for _ in range(BLOCKS):
                stride = outputs // inputs
                self.body.append(ResidualBlock(inputs, outputs, stride=stride, side=side, convolve=convolve, norm=norm))
                inputs, side = outputs, side // stride
        self.head = nn.Linear(WIDTHS[-1], classes)
        start_as_he(self)

    def forward(self, window: Tensor) -> Tensor:
        """Average the last map over all its places and score that."""
        maps = self.body(self.stem(window))
        logits: Tensor = self.head(maps.mean(dim=tuple(range(2, maps.ndim))))
        return logits
