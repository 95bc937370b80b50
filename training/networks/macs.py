"""Count what a network multiplies, layer by layer, as a window goes through it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from training.datasets import FRAMES, SIZE


def count_macs(network: nn.Module) -> int:
    """Count multiply-accumulates for one window [1, 5, 48, 48].

    Those of convolutions and dense layers, zeros of the padding included, as is usual; batch norms, which an export
    folds into the convolutions, biases, activations and pools are left out. In the 3-D nets of `networks.NETWORKS`
    time is strided (see `resnet3d`).
    """
    counts: list[int] = []

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, _ConvNd | nn.Linear)
        # Each output is the sum over one filter: [outputs, inputs / groups, *kernel], or [outputs, inputs].
        counts.append(output.numel() * layer.weight[0].numel())

    window = torch.zeros(1, FRAMES, SIZE, SIZE, device=next(network.parameters()).device)
    counted = [layer for layer in network.modules() if isinstance(layer, _ConvNd | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in counted]
    try:
        with _evaluating(network), torch.no_grad():
            network(window)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Keep the window out of the batch norms' moving averages."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
