"""The networks: their sizes against the paper's Table II, their cost, and what they read of a window."""

import pytest
import torch
from torch import nn

from training import networks
from training.networks import ParameterCount
from training.networks.macs import count_macs
from training.networks.resnet2plus1d import ResNet2Plus1d, middle_channels
from training.networks.resnet3d import ResNet3d

pytestmark = pytest.mark.training

SIZES = {
    "mini-xception-2d": ParameterCount(total=58_423, trainable=56_951),
    "timeconv-mini-xception": ParameterCount(total=58_711, trainable=57_239),
    "timeconv-resnet20": ParameterCount(total=274_535, trainable=273_159),
    "timeconv-mobilenetv2": ParameterCount(total=2_267_527, trainable=2_233_415),
    "resnet20-3d": ParameterCount(total=808_775, trainable=807_399),
    "resnet20-2plus1d": ParameterCount(total=523_357, trainable=519_599),
}
# In millions, each with as many digits as are known.
MEGA_MACS = {
    "mini-xception-2d": "5.52",
    "timeconv-mini-xception": "6.13",
    "timeconv-resnet20": "92.5",
    "timeconv-mobilenetv2": "16.9",
    "resnet20-3d": "922",
    "resnet20-2plus1d": "960",
}


def to_the_digits_of(printed: str, macs: int) -> str:
    decimals = len(printed.partition(".")[2])
    return f"{macs / 1e6:.{decimals}f}"


def test_all_six_are_named() -> None:
    """The registry holds the six networks of Table II, in its order."""
    assert list(networks.NETWORKS) == list(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_each_has_the_papers_size(name: str) -> None:
    """Totals are Table II's, moving averages included."""
    assert networks.count_parameters(networks.build(name)) == SIZES[name]


@pytest.mark.parametrize("name", MEGA_MACS)
def test_each_costs_what_it_should(name: str) -> None:
    """Multiplications a window agree to the printed precision."""
    printed = MEGA_MACS[name]
    assert to_the_digits_of(printed, count_macs(networks.build(name))) == printed


@pytest.mark.parametrize(("network", "printed"), [(ResNet3d, "1362"), (ResNet2Plus1d, "1247")])
def test_a_stride_in_time_changes_the_cost_alone(network: type[ResNet3d | ResNet2Plus1d], printed: str) -> None:
    """Without it the weights are as many, so the paper's totals do not tell whether there was one."""
    kept = network(time_stride=1)
    assert networks.count_parameters(kept) == networks.count_parameters(network())
    assert to_the_digits_of(printed, count_macs(kept)) == printed


def test_counting_leaves_no_trace() -> None:
    """Counting changes neither the moving averages nor the mode, and leaves no hooks behind."""
    network = networks.build("mini-xception-2d").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert count_macs(network) == count_macs(network)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_the_channels_between_space_and_time() -> None:
    """The rule that gives the paper's total gives these widths in the order of the layers."""
    blocks = [(16, 48), (32, 48), (32, 24), (64, 24), (64, 12)]
    assert [middle_channels(n, kernel=3, side=side) for n, side in blocks] == [43, 78, 66, 101, 69]
    assert [middle_channels(n, kernel=1, side=side) for n, side in ((32, 48), (64, 24))] == [19, 17]
    spatial = [
        layer.out_channels
        for layer in networks.build("resnet20-2plus1d").modules()
        if isinstance(layer, nn.Conv3d) and layer.kernel_size == (1, 3, 3)
    ]
    assert spatial == [43] * 7 + [78] + [66] * 5 + [101] + [69] * 5


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_window_gives_seven_logits(name: str) -> None:
    """Each network takes [n, 5, 48, 48] and gives [n, 7] of any sign."""
    logits = networks.build(name)(torch.rand(2, 5, 48, 48))
    assert logits.shape == (2, 7)
    assert (logits < 0).any()


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_only_the_baseline_reads_the_last_frame_alone(name: str) -> None:
    """The order of the first four frames matters to all networks but `mini-xception-2d`; the last matters to all."""
    network = networks.build(name).eval()
    window = torch.rand(1, 5, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        as_is, shuffled, reversed_ = (
            network(window[:, order]) for order in ([0, 1, 2, 3, 4], [2, 0, 3, 1, 4], [4, 3, 2, 1, 0])
        )
    assert torch.equal(as_is, shuffled) == (name == "mini-xception-2d")
    assert not torch.equal(as_is, reversed_)
