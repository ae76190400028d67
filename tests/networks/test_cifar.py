import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fvlightning.models import CifarCNN, CifarResNet
from fvlightning.networks.cifar import ResidualBlock


@pytest.mark.parametrize(("network", "weights"), [(CifarCNN, 620_842), (CifarResNet, 585_514)])
def test_number_of_weights(network, weights):
    assert sum(parameter.numel() for parameter in network().parameters()) == weights
    assert network()(torch.rand(3, *network.input_shape)).shape == (3, 10)
    assert network(num_classes=7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (CifarCNN, {"conv1": (32, 32, 32), "conv2": (64, 16, 16), "conv3": (128, 8, 8), "fc1": (256,), "fc2": (10,)}),
        (CifarResNet, {"stem": (32, 32, 32), "block1": (64, 16, 16), "block2": (128, 8, 8), "block3": (128, 8, 8)}),
    ],
)
def test_sizes_of_the_layers(network, shapes):
    model = network()
    outputs = {}
    for name in shapes:
        model.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: outputs.update({name: output})
        )
    model(torch.rand(4, 3, 32, 32))
    assert {name: tuple(output.shape[1:]) for name, output in outputs.items()} == shapes


def test_the_cnn_is_what_its_layers_say():
    cnn, pictures = CifarCNN().eval(), torch.rand(4, 3, 32, 32)
    layers: list[nn.Module] = []
    for conv, norm in [(cnn.conv1, cnn.norm1), (cnn.conv2, cnn.norm2), (cnn.conv3, cnn.norm3)]:
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), cnn.fc1, cnn.norm4, nn.ReLU(), cnn.fc2]
    torch.testing.assert_close(cnn(pictures), nn.Sequential(*layers)(pictures))


def test_dropout_is_that_of_the_recipe():
    assert [(module.p) for module in CifarCNN().modules() if isinstance(module, nn.Dropout)] == [0.2, 0.5]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_starts_as_its_shortcut(stride):
    block, features = ResidualBlock(4, 4, stride).eval(), torch.randn(2, 4, 8, 8)
    expected = features if stride == 1 else block.shortcut(features)
    torch.testing.assert_close(block(features), F.relu(expected))
    nn.init.ones_(block.norm2.weight)
    change = block.norm2(block.conv2(F.relu(block.norm1(block.conv1(features)))))
    torch.testing.assert_close(block(features), F.relu(expected + change))
