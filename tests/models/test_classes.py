import pytest
from torch import nn

from fvlightning.models import BackboneModule, CifarCNN, CifarResNet, ClassifierModule, MnistCNN, MnistMLP
from fvlightning.models.classes import count_classes, misfit


@pytest.mark.parametrize("network", [CifarCNN, CifarResNet, MnistCNN, MnistMLP])
def test_classes_of_the_networks_of_this_package(network):
    assert count_classes(network(num_classes=7)) == 7


def test_classes_of_other_networks():
    convolutional = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    named = nn.Linear(4, 12)
    named.num_classes = 4

    assert count_classes(convolutional) == 5
    assert count_classes(nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Dropout())) == 3
    assert count_classes(named) == 4
    assert count_classes(nn.Flatten()) is None


class Photos:
    image_size = None


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (ClassifierModule(CifarCNN()), "give --model.network.num_classes 2, or"),
        (ClassifierModule(CifarCNN(2), num_classes=10), "give --model.num_classes 2, or"),
        (ClassifierModule(nn.Linear(4, 10)), "give a network with 2 outputs, or"),
        (BackboneModule("test_resnet", weights=None), "give --model.num_classes 2, or"),
    ],
)
def test_the_option_that_makes_classes_fit_is_named(module, options):
    shape = (3, 32, 32)
    assert options in str(misfit(module, module.net, (shape, module.num_classes), Photos(), (shape, 2)))


@pytest.mark.parametrize(
    ("takes", "has", "options"),
    [
        ((3, 32, 32), (3, 64, 64), "give --data.image_size 32, or"),
        ((1, 28, 24), (3, 64, 64), "give --data.channels 1 --data.image_size '[28, 24]', or"),
        ((1, 28, 28), (3, 28, 28), "give --data.channels 1, or"),
    ],
)
def test_the_option_that_makes_shapes_fit_is_named(takes, has, options):
    module = ClassifierModule(CifarCNN())
    assert options in str(misfit(module, module.net, (takes, 10), Photos(), (has, 10)))
    assert f"give a network for pictures of shape {has}, or" in str(
        misfit(module, module.net, (takes, 10), object(), (has, 10))
    )
