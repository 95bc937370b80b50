"""The paper's networks by name. Each takes windows float [n, 5, 48, 48] in 0..1 and gives logits float [n, 7]."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.networks.mini_xception import MiniXception

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "timeconv-mini-xception": MiniXception,
}


@dataclass(frozen=True)
class ParameterCount:
    """Sizes of a network as Keras (and so the paper's Table II) states them."""

    total: int
    trainable: int


def build(name: str) -> nn.Module:
    """Build the network of that name with fresh weights; `KeyError` if there is none."""
    return NETWORKS[name]()


def count_parameters(network: nn.Module) -> ParameterCount:
    """Count as Keras does: `total` includes a batch norm's moving mean and variance, which are not trained."""
    trainable = sum(weights.numel() for weights in network.parameters())
    moving = sum(2 * layer.num_features for layer in network.modules() if isinstance(layer, _BatchNorm))
    return ParameterCount(total=trainable + moving, trainable=trainable)
