import pytest
from torch import nn

from fvlightning.errors import InputError
from fvlightning.models import BackboneModule, ClassifierModule
from fvlightning.models._classes import check_data, count_classes
from fvlightning.networks import CifarCNN, CifarResNet, MnistCNN, MnistMLP


@pytest.mark.parametrize("network", [CifarCNN, CifarResNet, MnistCNN, MnistMLP])
def test_classes_of_the_small_networks_are_counted(network):
    assert count_classes(network(num_classes=7)) == 7


def test_classes_of_other_networks_are_counted():
    convolutional = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    named = nn.Linear(4, 12)
    named.num_classes = 4

    assert count_classes(convolutional) == 5
    assert count_classes(nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Dropout())) == 3
    assert count_classes(named) == 4
    assert count_classes(nn.Flatten()) is None


class Data:
    def __init__(self, image_shape, num_classes):
        self.image_shape = image_shape
        self.num_classes = num_classes


class ResizableData(Data):
    image_size = None


def misfit(module, input_shape, num_classes, data, *, may_have_fewer=False):
    """Return the error of data that do not fit."""
    with pytest.raises(InputError, match=r"^data and model do not fit: ") as caught:
        check_data(module, input_shape, num_classes, data, may_have_fewer=may_have_fewer)
    return str(caught.value)


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
    assert options in misfit(module, shape, module.num_classes, ResizableData(shape, 2))


@pytest.mark.parametrize(
    ("input_shape", "image_shape", "options"),
    [
        ((3, 32, 32), (3, 64, 64), "give --data.image_size 32, or"),
        ((1, 28, 24), (3, 64, 64), "give --data.channels 1 --data.image_size '[28, 24]', or"),
        ((1, 28, 28), (3, 28, 28), "give --data.channels 1, or"),
    ],
)
def test_the_option_that_makes_shapes_fit_is_named(input_shape, image_shape, options):
    module = ClassifierModule(CifarCNN())
    assert options in misfit(module, input_shape, 10, ResizableData(image_shape, 10))
    assert f"give a network for pictures of shape {image_shape}, or" in misfit(
        module, input_shape, 10, Data(image_shape, 10)
    )


def test_a_head_may_be_larger_than_the_data_if_it_is_asked_for_and_no_label_is_that_of_another_class():
    shape, module = (3, 32, 32), ClassifierModule(CifarCNN())
    message = misfit(module, shape, 10, Data(shape, 2))
    assert "give --model.network.num_classes 2, or --model.num_classes 10 for classes to come, or" in message
    assert "to come" not in misfit(module, shape, 10, Data(shape, 12), may_have_fewer=True)
    assert "to come" not in misfit(ClassifierModule(CifarCNN(2), 10), shape, 10, Data(shape, 2), may_have_fewer=True)

    data = Data(shape, 2)
    data.class_names = ("cat", "dog")
    with pytest.warns(
        UserWarning, match="2 of the 10 classes .*: the first outputs stand for cat, dog, the others for"
    ):
        assert check_data(module, shape, 10, data, may_have_fewer=True) == shape
    module.class_names = ("tench", *"123456789")
    for others in (data, Data(shape, 2)):  # with other names, and without
        assert "give --model.network.num_classes 2, or other" in misfit(module, shape, 10, others, may_have_fewer=True)


def test_both_options_are_named_if_neither_shape_nor_classes_fit():
    message = misfit(ClassifierModule(CifarCNN()), (3, 32, 32), 10, ResizableData((3, 64, 64), 2))
    assert "give --data.image_size 32 and --model.network.num_classes 2, or" in message
