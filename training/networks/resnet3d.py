"""ResNet20 with 3x3x3 convolutions on the volume that a window is, the paper's 3-D baseline (Lee & Wong 2020).

Whether stages 2 and 3 stride in time as well as in space cannot be told from the paper: the weights are as many either
way. Here time is strided (5, 3, 2 maps), as Hara et al. 2018 (arXiv:1711.09577) do; without it the net costs 1,362 M
multiplications a window in place of 922 M.
"""

from functools import partial

from torch import Tensor, nn

from training.networks.resnet20 import Convolve, ResNet20

# Frames of the maps become 5, 3, 2 over the stages.
TIME_STRIDE = 2


def convolve_volumes(
    inputs: int,
    outputs: int,
    *,
    kernel: int,
    stride: int,
    side: int,  # noqa: ARG001 - a `Convolve` is told the side
    time_stride: int = TIME_STRIDE,
) -> nn.Module:
    """Convolve volumes [n, inputs, t, h, w] over time and space at once; `time_stride` holds where `stride` is 2."""
    strides = (1 if stride == 1 else time_stride, stride, stride)
    return nn.Conv3d(inputs, outputs, kernel, strides, padding=kernel // 2)


class VolumeResNet20(ResNet20):
    """ResNet20 on windows float [n, 5, 48, 48] as volumes [n, 1, 5, 48, 48] of one channel, by a given convolution."""

    def __init__(self, convolve: Convolve, classes: int = 7) -> None:
        """Build with batch norms of volumes."""
        super().__init__(channels=1, classes=classes, convolve=convolve, norm=nn.BatchNorm3d)

    def forward(self, window: Tensor) -> Tensor:
        """Take windows float [n, 5, 48, 48] in 0..1 and give logits float [n, classes]."""
        return super().forward(window.unsqueeze(1))


class ResNet3d(VolumeResNet20):
    """Windows float [n, 5, 48, 48] in 0..1 to logits float [n, classes] by 3x3x3 convolutions."""

    def __init__(self, classes: int = 7, time_stride: int = TIME_STRIDE) -> None:
        """Build with time strided like space, or (`time_stride` 1) kept at five frames to the end."""
        super().__init__(partial(convolve_volumes, time_stride=time_stride), classes)
