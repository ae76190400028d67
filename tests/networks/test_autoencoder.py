import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fvlightning.errors import InputError
from fvlightning.networks import Autoencoder, draw_alike, draw_codes, kl_from_prior, to_pictures


@pytest.mark.parametrize(
    ("shape", "widths"), [((3, 32, 32), (64, 128)), ((1, 28, 28), (8, 16)), ((2, 16, 40), (4, 4, 4)), ((1, 2, 2), (3,))]
)
def test_codes_and_pictures_have_the_given_sizes(shape, widths):
    network = Autoencoder(shape, 5, widths)
    pictures = torch.rand(3, *shape)
    mean, std = network.encoder(pictures)
    assert mean.shape == std.shape == (3, 5)
    assert (std > 0).all()
    drawn = network.decoder(10 * torch.randn(3, 5))
    assert drawn.shape == pictures.shape
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    torch.testing.assert_close(network.eval()(pictures), network.decoder(network.encoder(pictures)[0]))


def test_default_network_is_that_of_the_experiment():
    network = Autoencoder()
    assert [layer.out_channels for layer in network.encoder.convolutions[::3]] == [64, 128]
    assert network.encoder.code.out_features == 2 * 512
    assert network.decoder.latent_size == 512


def test_pictures_are_the_logistic_function_of_twice_the_levels():
    levels = torch.linspace(-4, 4, 9)
    torch.testing.assert_close(to_pictures(levels), (2 * levels).sigmoid())


def test_kl_is_that_of_torch():
    mean, std = torch.randn(6, 5), torch.rand(6, 5) + 0.1
    expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_from_prior(mean, std), expected)


def test_codes_are_drawn_from_the_normal_distribution():
    mean, std = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 2.0]])
    codes = draw_codes(mean.expand(20_000, 2), std.expand(20_000, 2))
    torch.testing.assert_close(codes.mean(0), mean[0], atol=0.06, rtol=0)
    torch.testing.assert_close(codes.std(0), std[0], atol=0.05, rtol=0)


def test_codes_drawn_alike_have_the_mean_and_the_covariance_of_the_others():
    generator = torch.Generator().manual_seed(0)
    codes = (
        torch.randn(50, 3, generator=generator) @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.3]]) + 4
    )
    drawn = draw_alike(codes, 100_000, generator)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), atol=0.05, rtol=0.02)
    # Codes drawn from two lie on the line through both.
    ends = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    line = draw_alike(ends, 5, generator)
    torch.testing.assert_close(line[:, 1], 2 * line[:, 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_size": 0}, r"Autoencoder\(latent_size=0\): must be at least 1"),
        ({"widths": []}, r"Autoencoder\(widths=\[\]\): must be numbers of channels, each at least 1"),
        ({"widths": (4, 4, 4)}, r"pictures of shape \(1, 28, 28\) cannot be halved 3 times, .* multiples of 8"),
        ({"image_shape": (1, 0, 28)}, r"Autoencoder\(image_shape=\(1, 0, 28\)\): must be \(C, H, W\), each at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Autoencoder(**{"image_shape": (1, 28, 28), "latent_size": 4, "widths": (4, 8), **settings})
