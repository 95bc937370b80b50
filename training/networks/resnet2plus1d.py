"""ResNet20 with each 3-D convolution split into space and time, the paper's (2+1)-D baseline (Lee & Wong 2020).

Tran et al. 2018 (arXiv:1711.11248, section 3.5) put between the 1 x k x k spatial and the k x 1 x 1 temporal
convolution as many channels M as make the pair as large as the k x k x k convolution it stands for:

    M = floor(k^3 C N / (k^2 C + k N)),  C channels in, N out.

With that rule the net would have 815,968 weights; the paper's Table II states 523,357. That figure follows exactly if C
is not the channels of the incoming map but its height H (48, 24, 12), and if the two shortcuts are split too:

    stem and stage 1: M = 43; stage 2: 78, then 66 five times; stage 3: 101, then 69 five times; shortcuts: 19 and 17.

So the authors' code very probably read the wrong axis of a shape. It is a hypothesis, made to fit one number. Time is
strided as in `resnet3d`, which says why: 960 M multiplications a window, 1,247 M without.
"""

from functools import partial

from torch import nn

from training.networks.layers import BATCH_NORM_EPS
from training.networks.resnet3d import TIME_STRIDE, VolumeResNet20


def middle_channels(outputs: int, *, kernel: int, side: int) -> int:
    """Give the channels M between space and time, from the incoming map's height `side` (see above)."""
    return kernel**3 * side * outputs // (kernel**2 * side + kernel * outputs)


def convolve_space_then_time(
    inputs: int, outputs: int, *, kernel: int, stride: int, side: int, time_stride: int = TIME_STRIDE
) -> nn.Module:
    """Convolve volumes [n, inputs, t, h, w] over space, then over time; `time_stride` holds where `stride` is 2."""
    middle, around = middle_channels(outputs, kernel=kernel, side=side), kernel // 2
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, kernel, kernel), (1, stride, stride), padding=(0, around, around)),
        nn.BatchNorm3d(middle, eps=BATCH_NORM_EPS),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, outputs, (kernel, 1, 1), (1 if stride == 1 else time_stride, 1, 1), padding=(around, 0, 0)),
    )


class ResNet2Plus1d(VolumeResNet20):
    """Windows float [n, 5, 48, 48] in 0..1 to logits float [n, classes] by spatial and temporal convolutions."""

    def __init__(self, classes: int = 7, time_stride: int = TIME_STRIDE) -> None:
        """Build with time strided like space, or (`time_stride` 1) kept at five frames to the end."""
        super().__init__(partial(convolve_space_then_time, time_stride=time_stride), classes)
