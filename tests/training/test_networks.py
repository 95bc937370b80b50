"""The networks' sizes and shapes."""

import pytest
import torch

from training import networks
from training.networks import ParameterCount
from training.networks.mini_xception import MiniXception

pytestmark = pytest.mark.training


def test_mini_xception_has_the_papers_size() -> None:
    """Table II of the paper states 58,711 parameters, moving averages included."""
    network = networks.build("timeconv-mini-xception")
    assert networks.count_parameters(network) == ParameterCount(total=58_711, trainable=57_239)


def test_a_single_frame_saves_288_weights() -> None:
    """The single-frame baseline differs in the first convolution only: 58,423 in Table II."""
    assert networks.count_parameters(MiniXception(frames=1)) == ParameterCount(total=58_423, trainable=56_951)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_window_gives_seven_logits(name: str) -> None:
    """Each network takes [n, 5, 48, 48] and gives [n, 7] of any sign."""
    logits = networks.build(name)(torch.rand(2, 5, 48, 48))
    assert logits.shape == (2, 7)
    assert (logits < 0).any()
