"""What several of the networks are made of."""

from torch import nn

# Keras' default, which the paper's networks were trained with; torch's own is 1e-5.
BATCH_NORM_EPS = 1e-3


def normed(convolution: nn.Module, channels: int) -> list[nn.Module]:
    """A convolution of images and the batch norm of its `channels` outputs."""
    return [convolution, nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)]


def start_as_he(network: nn.Module) -> None:
    """Draw the kernels of all convolutions as He et al. 2015 (arXiv:1502.01852) do, and set their biases to zero.

    Residual nets need it where a shortcut has no batch norm: torch's own start shrinks what goes through it.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
