"""Small networks that the tests of the engine share, and what it must leave as it was."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def one_seed_and_thread(one_thread: None) -> None:
    """Tiny tensors are slower on several threads."""
    torch.manual_seed(0)


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
    """Pictures (1, 12, 12); layers conv1 (8), bn, drop, conv2 (33), pool, fc (5). The batch norm has seen data."""
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


def _state_of(network: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {f"buffer or weight {name}": value.tolist() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        state[f"gradient of {name}"] = None if parameter.grad is None else parameter.grad.tolist()
        state[f"requires_grad of {name}"] = parameter.requires_grad
    for name, module in network.named_modules():
        state[f"training of {name}"] = module.training
        state[f"hooks of {name}"] = (len(module._forward_hooks), len(module._forward_pre_hooks))
    state["torch"] = torch.get_rng_state().tolist()
    state["python"] = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the state that must not change
    state["numpy"] = (name, keys.tolist(), *rest)
    state["gradients on"] = torch.is_grad_enabled()
    return state


@pytest.fixture
def untouched() -> Callable[[nn.Module], AbstractContextManager[None]]:
    """A context that asserts that a network and all random numbers are left as they were, also after an exception."""

    @contextmanager
    def untouched(network: nn.Module) -> Iterator[None]:
        before = _state_of(network)
        try:
            yield
        finally:
            after = _state_of(network)
            assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()

    return untouched
