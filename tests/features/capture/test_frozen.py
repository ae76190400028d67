"""Frozen networks: what is changed inside is restored at the end."""

import pytest
import torch
from torch import nn

from fvlightning.features import Maximizer
from fvlightning.features.capture import frozen


@pytest.mark.parametrize("failing", [False, True])
def test_flags_of_partly_frozen_networks_are_restored(wide_cnn: nn.Module, failing: bool):
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
    """Keeps its first part in evaluation mode, as some fine-tuned networks do."""

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


def test_a_batch_norm_without_running_statistics_warns():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU())
    with pytest.warns(UserWarning, match="batch norm '1' has no running statistics: .* set batch_size=1"):
        Maximizer(1).maximize(network, ["2:0"], (1, 8, 8))
    Maximizer(1, batch_size=1).maximize(network, ["2:0"], (1, 8, 8))
