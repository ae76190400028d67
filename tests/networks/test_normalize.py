import pytest
import torch

from fvlightning.errors import InputError
from fvlightning.networks import Normalize


def test_it_is_the_identity_until_it_is_given_values():
    pictures = torch.rand(2, 3, 4, 5)
    layer = Normalize()

    assert torch.equal(layer(pictures), pictures)
    assert not layer.is_set


def test_each_channel_has_its_own_values():
    pictures = torch.rand(2, 3, 4, 5)
    layer = Normalize((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    normalised = layer(pictures)

    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1.0), (0.3, 2.0)]):
        torch.testing.assert_close(normalised[:, channel], (pictures[:, channel] - mean) / std)


def test_a_constant_channel_is_only_centred():
    layer = Normalize((0.25,), (0.0,))

    assert torch.equal(layer(torch.full((1, 1, 2, 2), 0.75)), torch.full((1, 1, 2, 2), 0.5))


def test_a_new_layer_takes_values_and_channels_from_a_state_dict():
    trained, fresh = Normalize((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)), Normalize()
    fresh.load_state_dict(trained.state_dict())

    assert torch.equal(fresh.mean, trained.mean)
    assert torch.equal(fresh.std, trained.std)
    assert fresh.is_set


def test_pictures_take_the_dtype_of_a_model_in_half_precision():
    layer = Normalize((0.1,), (0.5,)).to(torch.bfloat16)

    assert layer(torch.rand(1, 1, 2, 2)).dtype == torch.bfloat16


def test_gradients_reach_the_pictures():
    pictures = torch.rand(1, 1, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(Normalize((0.1,), (0.5,))(pictures).sum(), pictures)

    assert torch.equal(gradient, torch.full((1, 1, 2, 2), 2.0))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.1,), None, r"Normalize\(mean=\(0.1,\), std=None\): must be both given, or neither"),
        ((0.1, 0.2), (0.5,), r"mean=\[0.1, 0.2\], std=\[0.5\]\): must have one value for each channel"),
        ((), (), r"mean=\[\], std=\[\]\): must have one value for each channel"),
        ((0.1,), (-0.5,), r"Normalize\(std=\[-0.5\]\): must not be negative"),
    ],
)
def test_values_that_do_not_fit_are_refused(mean, std, message):
    with pytest.raises(InputError, match=message):
        Normalize(mean, std)


def test_pictures_with_another_number_of_channels_are_refused():
    with pytest.raises(InputError, match="the pictures have 1 channels, the normalisation 3"):
        Normalize((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))(torch.zeros(2, 1, 4, 4))
