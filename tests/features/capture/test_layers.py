"""The sizes of a network's layers."""

import pytest
import torch
from torch import nn

from fvlightning.errors import InputError
from fvlightning.features import LayerCall, LayerSize, measure_layers
from fvlightning.features.capture.capture import find_layer

SHAPE = (1, 8, 8)


def test_sizes_of_layers(cnn: nn.Module):
    sizes = measure_layers(cnn, [LayerCall("conv"), LayerCall("fc")], SHAPE)
    assert sizes == {LayerCall("conv"): LayerSize(4, (6, 6)), LayerCall("fc"): LayerSize(5, ())}


def test_measuring_leaves_the_network_and_the_random_numbers_alone(wide_cnn: nn.Module):
    wide_cnn.drop.eval()
    before = {name: value.clone() for name, value in wide_cnn.state_dict().items()}
    state = torch.get_rng_state()
    measure_layers(wide_cnn, [LayerCall("fc")], (1, 12, 12))
    assert all(torch.equal(value, before[name]) for name, value in wide_cnn.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert wide_cnn.training
    assert not wide_cnn.drop.training


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 8, 8), (1, 2, 2), (1, 8), (1, -8, 8), (1, 0, 0)])
def test_a_picture_that_the_network_cannot_take_is_refused(cnn: nn.Module, shape: tuple[int, ...]):
    with pytest.raises(InputError, match="Sequential cannot take a picture of shape") as caught:
        measure_layers(cnn, [LayerCall("fc")], shape)
    assert "\n" not in str(caught.value)
    assert str(shape) in str(caught.value)


def test_a_network_in_double_precision_is_measured_in_it(cnn: nn.Module):
    assert measure_layers(cnn.double(), [LayerCall("fc")], SHAPE)[LayerCall("fc")].n_units == 5


def test_of_a_module_with_a_net_only_the_layers_of_the_net_are_named(cnn: nn.Module):
    module = nn.Module()
    module.net, module.accuracy = cnn, nn.Identity()
    with pytest.raises(InputError, match=r"no layer 'accuracy1' in Sequential; layers: conv, relu, flatten, fc\.$"):
        find_layer(module, "accuracy1")
