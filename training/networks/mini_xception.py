"""Mini-Xception (Arriaga et al. 2017, arXiv:1710.07557) on a window of frames (Lee & Wong 2020, TimeConvNets).

The frames of a window are the channels of the first convolution, so time costs 4 * 9 * 8 = 288 weights more than one
frame would and nothing after it.
"""

from itertools import pairwise

from torch import Tensor, nn

from training.networks.layers import normed


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 depthwise, then 1x1 pointwise convolution; no bias, since a batch norm follows."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
    )


class XceptionModule(nn.Module):
    """Two separable convolutions and a pool beside a 1x1 shortcut: [n, inputs, h, w] to [n, outputs, h/2, w/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the two paths; `h` and `w` are halved and rounded up."""
        super().__init__()
        self.shortcut = nn.Sequential(*normed(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), outputs))
        self.main = nn.Sequential(
            *normed(_separable(inputs, outputs), outputs),
            nn.ReLU(inplace=True),
            *normed(_separable(outputs, outputs), outputs),
            nn.MaxPool2d(3, stride=2, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Add both paths; no activation follows, as in the source."""
        out: Tensor = self.main(maps) + self.shortcut(maps)
        return out


class MiniXception(nn.Module):
    """Windows float [n, frames, 48, 48] in 0..1 to logits float [n, classes]."""

    def __init__(self, frames: int = 5, classes: int = 7) -> None:
        """Build with `frames` input channels (5: time convolution; 1: what `LastFrameMiniXception` needs)."""
        super().__init__()
        self.stem = nn.Sequential(
            *normed(nn.Conv2d(frames, 8, 3, bias=False), 8),
            nn.ReLU(inplace=True),
            *normed(nn.Conv2d(8, 8, 3, bias=False), 8),
            nn.ReLU(inplace=True),
        )
        widths = (8, 16, 32, 64, 128)
        self.body = nn.Sequential(*(XceptionModule(a, b) for a, b in pairwise(widths)))
        self.head = nn.Conv2d(widths[-1], classes, 3, padding=1)

    def forward(self, window: Tensor) -> Tensor:
        """Score every place of the last map and average the scores over it."""
        logits: Tensor = self.head(self.body(self.stem(window))).mean(dim=(2, 3))
        return logits


class LastFrameMiniXception(MiniXception):
    """The paper's single-frame baseline: sees only the last frame of a window, so that it can be served alike."""

    def __init__(self, classes: int = 7) -> None:
        """Build with one input channel."""
        super().__init__(frames=1, classes=classes)

    def forward(self, window: Tensor) -> Tensor:
        """Take windows float [n, 5, 48, 48] in 0..1 and give logits float [n, classes]; frames 0 to 3 are not read."""
        return super().forward(window[:, -1:])
