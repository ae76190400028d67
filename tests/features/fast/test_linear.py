"""Linear layers that are computed picture by picture."""

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import LayerCall
from fvlightning.features.capture import Capture, frozen
from fvlightning.features.fast import fast_copy
from fvlightning.features.fast._linear import RowLinear


def gradient(layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and the gradient of their squares to the inputs."""
    inputs = inputs.clone().requires_grad_()
    outputs = layer(inputs)
    return outputs.detach(), torch.autograd.grad(outputs.square().sum(), inputs)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 96), (5, 7, 96)])
def test_it_gives_what_a_linear_layer_gives(shape: tuple[int, ...], bias: bool):
    layer = nn.Linear(96, 64, bias=bias).double()
    rows = RowLinear(96, 64, bias=bias).double()
    rows.load_state_dict(layer.state_dict())
    inputs = torch.randn(shape, dtype=torch.float64)
    for made, expected in zip(gradient(rows, inputs), gradient(layer, inputs), strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_rows", [2, 3, 5, 8, 21])
def test_a_picture_gives_the_same_bits_in_any_batch(n_rows: int):
    rows = RowLinear(1280, 1000)
    inputs = torch.randn(64, 1280)
    for few, all_rows in zip(gradient(rows, inputs[:n_rows]), gradient(rows, inputs), strict=True):
        assert torch.equal(few, all_rows[:n_rows])


def test_a_copy_has_it_for_linear_layers_alone():
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    )
    layers = {LayerCall("3")}
    with frozen(network):
        fast = fast_copy(network, layers, [(3, 8, 8)])
        kinds = [type(module) is RowLinear for module in fast.children()]
        assert kinds == [False, False, True, False]
        pictures = torch.rand(4, 3, 8, 8)
        made, expected = (Capture(one, layers)(pictures)[LayerCall("3")].tensor for one in (fast, network))
        torch.testing.assert_close(made, expected)
