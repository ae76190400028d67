"""Small networks that the tests of the engine share."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cnn() -> nn.Module:
    """Pictures (1, 8, 8); layers conv (4, 6, 6), relu, flatten, fc (5)."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(1, 4, 3))
    network.add_module("relu", nn.ReLU())
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(4 * 6 * 6, 5))
    return network


@pytest.fixture
def wide_cnn() -> nn.Module:
    """Pictures (1, 12, 12); layers conv1 (8), bn, drop, conv2 (33), pool, fc (5). Batch norm that has seen data."""
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(1, 8, 3))
    network.add_module("bn", nn.BatchNorm2d(8))
    network.add_module("relu", nn.ReLU(inplace=True))
    network.add_module("drop", nn.Dropout(0.5))
    network.add_module("conv2", nn.Conv2d(8, 33, 3))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(33, 5))
    with torch.no_grad():
        network(torch.rand(16, 1, 12, 12))
    return network
