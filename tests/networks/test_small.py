import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fvlightning.networks import CifarCNN, CifarResNet, MnistCNN, MnistMLP
from fvlightning.networks.small import ResidualBlock


@pytest.mark.parametrize(
    ("network", "weights"), [(CifarCNN, 620_842), (CifarResNet, 585_514), (MnistCNN, 165_570), (MnistMLP, 101_770)]
)
def test_networks_have_the_documented_numbers_of_weights_and_logits(network, weights):
    assert sum(parameter.numel() for parameter in network().parameters()) == weights
    assert network()(torch.rand(3, *network.input_shape)).shape == (3, 10)
    assert network(num_classes=7)(torch.rand(2, *network.input_shape)).shape == (2, 7)


def outputs_of(model, names):
    outputs = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: outputs.update({name: output})
        )
    model(torch.rand(8, *model.input_shape))
    return outputs


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (CifarCNN, {"conv1": (32, 32, 32), "conv2": (64, 16, 16), "conv3": (128, 8, 8), "fc1": (256,), "fc2": (10,)}),
        (CifarResNet, {"stem": (32, 32, 32), "block1": (64, 16, 16), "block2": (128, 8, 8), "block3": (128, 8, 8)}),
        (MnistCNN, {"conv1": (10, 22, 22), "conv2": (10, 18, 18), "fc1": (50,), "fc2": (10,)}),
        (MnistMLP, {"fc1": (128,), "fc2": (10,)}),
    ],
)
def test_layers_have_the_documented_sizes(network, shapes):
    assert {name: tuple(output.shape[1:]) for name, output in outputs_of(network(), shapes).items()} == shapes


@pytest.mark.parametrize("network", [MnistCNN, MnistMLP])
def test_named_layers_give_pre_activations(network):
    model = network()
    outputs = outputs_of(model, [name for name, _ in model.named_children()])
    assert all(output.min() < 0 for output in outputs.values())


def test_mnist_networks_compute_what_their_layers_say():
    pictures = torch.rand(4, 1, 28, 28)
    cnn, mlp = MnistCNN(), MnistMLP()
    relu, flatten = nn.ReLU(), nn.Flatten()

    assert torch.equal(
        cnn(pictures), nn.Sequential(cnn.conv1, relu, cnn.conv2, relu, flatten, cnn.fc1, relu, cnn.fc2)(pictures)
    )
    assert torch.equal(mlp(pictures), nn.Sequential(flatten, mlp.fc1, relu, mlp.fc2)(pictures))


def test_the_cifar_cnn_computes_what_its_layers_say():
    cnn, pictures = CifarCNN().eval(), torch.rand(4, 3, 32, 32)
    layers: list[nn.Module] = []
    for conv, norm in [(cnn.conv1, cnn.norm1), (cnn.conv2, cnn.norm2), (cnn.conv3, cnn.norm3)]:
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), cnn.fc1, cnn.norm4, nn.ReLU(), cnn.fc2]
    torch.testing.assert_close(cnn(pictures), nn.Sequential(*layers)(pictures))


def test_dropout_is_that_of_the_recipe():
    assert [module.p for module in CifarCNN().modules() if isinstance(module, nn.Dropout)] == [0.2, 0.5]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block_starts_as_its_shortcut(stride):
    block, features = ResidualBlock(4, 4, stride).eval(), torch.randn(2, 4, 8, 8)
    expected = features if stride == 1 else block.shortcut(features)
    torch.testing.assert_close(block(features), F.relu(expected))
    nn.init.ones_(block.norm2.weight)
    change = block.norm2(block.conv2(F.relu(block.norm1(block.conv1(features)))))
    torch.testing.assert_close(block(features), F.relu(expected + change))
