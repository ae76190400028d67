"""The visualiser is invisible to the network and to the program around it."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from fvlightning.features import Maximizer
from fvlightning.features.capture.isolation import frozen, isolated_rng, picture_generator


def random_states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the state that is to be left alone
    return random.getstate(), tuple(torch.get_rng_state().tolist()), name, tuple(keys.tolist()), *rest


def draw() -> None:
    random.random(), torch.rand(3), np.random.rand(3)  # noqa: NPY002


def test_random_states_are_put_back():
    before = random_states()
    with isolated_rng():
        draw()
        torch.manual_seed(5)
        random.seed(5)
        assert random_states() != before
    assert random_states() == before


def test_random_states_are_put_back_after_an_exception():
    before = random_states()

    def fail() -> None:
        draw()
        raise KeyError

    with pytest.raises(KeyError), isolated_rng():
        fail()
    assert random_states() == before


@pytest.mark.parametrize("failing", [False, True])
def test_flags_of_partly_frozen_networks_are_put_back(wide_cnn: nn.Module, failing: bool):
    wide_cnn.bn.eval()
    wide_cnn.conv1.weight.requires_grad_(False)
    flags = {name: module.training for name, module in wide_cnn.named_modules()}
    needs = {name: parameter.requires_grad for name, parameter in wide_cnn.named_parameters()}
    assert len(set(flags.values())) == len(set(needs.values())) == 2
    try:
        with frozen(wide_cnn):
            assert not any(module.training for module in wide_cnn.modules())
            assert not any(parameter.requires_grad for parameter in wide_cnn.parameters())
            if failing:
                raise KeyError
    except KeyError:
        assert failing
    assert {name: module.training for name, module in wide_cnn.named_modules()} == flags
    assert {name: parameter.requires_grad for name, parameter in wide_cnn.named_parameters()} == needs


class StaysFrozen(nn.Sequential):
    """Keeps its first part in evaluation mode, as fine-tuned networks do."""

    def train(self, mode: bool = True) -> "StaysFrozen":
        super().train(mode)
        self[0].eval()
        return self


def test_train_is_not_called():
    network = StaysFrozen(nn.Dropout(), nn.Dropout()).train()
    network[0].training = True
    with frozen(network):
        assert not network[0].training
    assert network[0].training
    assert network[1].training


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_inside(mode: type[torch.no_grad], cnn: nn.Module):
    with mode():
        with frozen(cnn):
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            pictures = torch.rand(1, 1, 8, 8, requires_grad=True)
            (gradient,) = torch.autograd.grad(cnn(pictures).sum(), pictures)
            assert gradient.any()
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_generators_depend_on_seed_unit_and_repeat_alone():
    def numbers(*key) -> list[float]:
        return torch.rand(3, generator=picture_generator(*key)).tolist()

    keys = [
        (0, "conv:1", 0),
        (1, "conv:1", 0),
        (0, "conv:2", 0),
        (0, "conv:1", 1),
        (0, "-conv:1", 0),
        (-1, "conv:1", 0),
    ]
    drawn = [numbers(*key) for key in keys]
    assert [numbers(*key) for key in keys] == drawn
    assert len({tuple(values) for values in drawn}) == len(keys)


def test_the_generator_of_a_picture_is_the_same_in_every_process():
    """Ranks and runs must agree, and Python's own hash of a text differs from process to process."""
    assert picture_generator(0, "conv:1", 0).initial_seed() == 1558629835637754521


def test_batch_statistics_are_warned_of():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    with pytest.warns(UserWarning, match="batch norm '1' has no running statistics: .* set batch_size=1"):
        Maximizer(1).maximize(network, ["1:0"], (1, 8, 8))
    Maximizer(1, batch_size=1).maximize(network, ["1:0"], (1, 8, 8))
