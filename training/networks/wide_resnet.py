"""A residual net ten times as large as ResNet20 at twice its multiplications: it teaches and is not served."""

from torch import Tensor, nn

from training.networks.layers import normed, start_as_he
from training.networks.resnet20 import ResidualBlock, convolve_planes

STEM = 32
# Channels and blocks of a stage; each begins by halving the map.
STAGES = ((64, 1), (128, 2), (256, 2))
DROPOUT = 0.2


class WideResNet(nn.Module):
    """Windows float [n, channels, 48, 48] in 0..1 to logits float [n, classes]; 2.7 M weights, 187 M MACs."""

    def __init__(self, channels: int = 5, classes: int = 7) -> None:
        """Build with the frames of a window as the `channels` of the first convolution."""
        super().__init__()
        self.stem = nn.Sequential(*normed(nn.Conv2d(channels, STEM, 3, padding=1), STEM), nn.ReLU(inplace=True))
        self.body = nn.Sequential()
        inputs, side = STEM, 48
        for outputs, blocks in STAGES:
            for stride in (2, *[1] * (blocks - 1)):
                self.body.append(
                    ResidualBlock(
                        inputs, outputs, stride=stride, side=side, convolve=convolve_planes, norm=nn.BatchNorm2d
                    )
                )
                inputs, side = outputs, side // stride
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(inputs, classes))
        start_as_he(self)

    def forward(self, window: Tensor) -> Tensor:
        """Average the last map over all its places and score that."""
        logits: Tensor = self.head(self.body(self.stem(window)).mean(dim=(2, 3)))
        return logits
