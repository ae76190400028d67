import pytest
import torch
from torch import nn

from fvlightning.models import MnistCNN, MnistMLP


@pytest.mark.parametrize(("network", "weights"), [(MnistCNN, 165_570), (MnistMLP, 101_770)])
def test_number_of_weights(network, weights):
    assert sum(parameter.numel() for parameter in network().parameters()) == weights
    assert network()(torch.rand(3, *network.input_shape)).shape == (3, 10)


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (MnistCNN, {"conv1": (10, 22, 22), "conv2": (10, 18, 18), "fc1": (50,), "fc2": (10,)}),
        (MnistMLP, {"fc1": (128,), "fc2": (10,)}),
    ],
)
def test_named_layers_give_pre_activations(network, shapes):
    model = network()
    outputs = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda layer, args, output, name=name: outputs.update({name: output}))
    model(torch.rand(8, *network.input_shape))

    assert {name: output.shape[1:] for name, output in outputs.items()} == shapes
    assert all(output.min() < 0 for output in outputs.values())


def test_networks_are_what_the_layers_say():
    pictures = torch.rand(4, 1, 28, 28)
    cnn, mlp = MnistCNN(), MnistMLP()
    relu, flatten = nn.ReLU(), nn.Flatten()

    assert torch.equal(
        cnn(pictures), nn.Sequential(cnn.conv1, relu, cnn.conv2, relu, flatten, cnn.fc1, relu, cnn.fc2)(pictures)
    )
    assert torch.equal(mlp(pictures), nn.Sequential(flatten, mlp.fc1, relu, mlp.fc2)(pictures))
