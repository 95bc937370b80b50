"""The paper's networks by name. Each takes windows float [n, 5, 48, 48] in 0..1 and gives logits float [n, 7]."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.networks.mini_xception import LastFrameMiniXception, MiniXception
from training.networks.mobilenetv2 import MobileNetV2
from training.networks.resnet2plus1d import ResNet2Plus1d
from training.networks.resnet3d import ResNet3d
from training.networks.resnet20 import ResNet20
from training.networks.wide_resnet import WideResNet

# In the order of the paper's Table II.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mini-xception-2d": LastFrameMiniXception,
    "timeconv-mini-xception": MiniXception,
    "timeconv-resnet20": ResNet20,
    "timeconv-mobilenetv2": MobileNetV2,
    "resnet20-3d": ResNet3d,
    "resnet20-2plus1d": ResNet2Plus1d,
}
# Larger nets that teach these and are not served.
TEACHERS: dict[str, Callable[[], nn.Module]] = {"wide-resnet": WideResNet}


@dataclass(frozen=True)
class ParameterCount:
    """Sizes of a network as Keras (and so the paper's Table II) states them."""

    total: int
    trainable: int


def build(name: str) -> nn.Module:
    """Build the network of that name with fresh weights; `ValueError` if there is none."""
    known = NETWORKS | TEACHERS
    if name not in known:
        raise ValueError(f"no network {name!r}; there are: {', '.join(known)}")
    return known[name]()


def count_parameters(network: nn.Module) -> ParameterCount:
    """Count as Keras does: `total` includes a batch norm's moving mean and variance, which are not trained."""
    trainable = sum(weights.numel() for weights in network.parameters())
    moving = sum(2 * layer.num_features for layer in network.modules() if isinstance(layer, _BatchNorm))
    return ParameterCount(total=trainable + moving, trainable=trainable)
