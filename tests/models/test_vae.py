import math

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.utils.data import DataLoader

from fvlightning.callbacks import VAEPicturesCallback
from fvlightning.data import MNISTDataModule
from fvlightning.errors import InputError
from fvlightning.io.loading import load_plain
from fvlightning.models import VAEModule
from fvlightning.networks.autoencoder import Autoencoder, draw_alike, draw_codes, kl_from_prior, to_pictures

SMALL = {"input_shape": (1, 28, 28), "latent_size": 4, "widths": (4, 8)}


def make_trainer(max_epochs=1, **options):
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, **options}
    return pl.Trainer(accelerator="cpu", max_epochs=max_epochs, enable_model_summary=False, **options)


def make_data(mnist_dir) -> MNISTDataModule:
    return MNISTDataModule(mnist_dir, batch_size=64, val_size=64)


@pytest.mark.parametrize(
    ("shape", "widths"), [((3, 32, 32), (64, 128)), ((1, 28, 28), (8, 16)), ((2, 16, 40), (4, 4, 4)), ((1, 2, 2), (3,))]
)
def test_codes_and_pictures_have_the_sizes_that_are_asked_for(shape, widths):
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


def test_cross_entropy_is_the_formula_and_its_least_value_the_entropy_of_the_pixels():
    module, pictures = VAEModule(**SMALL), torch.rand(2, 1, 28, 28).clamp(0.01, 0.99)
    levels = torch.randn_like(pictures)
    made = to_pictures(levels)
    expected = -(pictures * made.log() + (1 - pictures) * (1 - made).log()).mean()
    torch.testing.assert_close(module.reconstruction_error(pictures, levels), expected)
    entropy = -(pictures * pictures.log() + (1 - pictures) * (1 - pictures).log()).mean()
    perfect = torch.logit(pictures) / 2
    torch.testing.assert_close(module.reconstruction_error(pictures, perfect), entropy)
    for change in (-0.1, 0.1):
        assert module.reconstruction_error(pictures, perfect + change) > entropy


def test_gaussian_likelihood_is_half_the_squared_error():
    module, pictures, levels = (
        VAEModule(**SMALL, likelihood="gaussian"),
        torch.rand(2, 1, 28, 28),
        torch.randn(2, 1, 28, 28),
    )
    log_density = Normal(to_pictures(levels), 1.0).log_prob(pictures).mean()
    expected = -log_density - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(module.reconstruction_error(pictures, levels), expected)


class Weights(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: VAEModule) -> None:
        self.seen.append(pl_module.kl_weight_now)


@pytest.mark.parametrize(("warmup", "expected"), [(2, [0, 0.15, 0.3, 0.3]), (0, [0.3] * 4)])
def test_kl_warms_up(mnist_dir, warmup, expected):
    weights = Weights()
    module = VAEModule(**SMALL, kl_weight=0.3, kl_warmup=warmup)
    make_trainer(4, callbacks=[weights], limit_train_batches=1, limit_val_batches=0).fit(module, make_data(mnist_dir))
    assert weights.seen == pytest.approx(expected)


def losses(module: VAEModule, mnist_dir) -> dict[str, float]:
    return make_trainer().test(module, datamodule=make_data(mnist_dir), verbose=False)[0]


def test_test_losses_are_those_of_the_means_of_the_codes(mnist_dir):
    module = VAEModule(**SMALL, kl_weight=0.01)
    found = losses(module, mnist_dir)
    data = make_data(mnist_dir)
    data.setup()
    pictures = data.splits.test.images / 255
    module.eval()
    with torch.no_grad():
        mean, std = module.net.encoder(pictures)
        reconstruction = F.binary_cross_entropy(module(pictures), pictures)
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1).mean()
    assert found["test/reconstruction"] == pytest.approx(reconstruction.item(), rel=1e-4)
    assert found["test/kl"] == pytest.approx(kl.item(), rel=1e-4)
    assert found["test/loss"] == pytest.approx((reconstruction + 0.01 * kl).item(), rel=1e-4)


def test_free_bits_cost_what_they_are_at_least(mnist_dir):
    module = VAEModule(**SMALL, kl_weight=0.5, free_bits=100.0)
    found = losses(module, mnist_dir)
    assert found["test/kl"] < 100
    # All four numbers of the code are below: each costs its 100 nats, whatever it says.
    assert found["test/loss"] == pytest.approx(found["test/reconstruction"] + 0.5 * 4 * 100, rel=1e-5)


def test_training_learns_and_logs(mnist_dir):
    pl.seed_everything(0)
    module = VAEModule(**SMALL, optimizer=lambda parameters: torch.optim.Adam(parameters, 0.01))
    before = losses(module, mnist_dir)["test/reconstruction"]
    trainer = make_trainer(6)
    trainer.fit(module, make_data(mnist_dir))
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert set(logged) == {f"{part}/{name}" for part in ("train", "val") for name in ("reconstruction", "kl", "loss")}
    assert logged["val/reconstruction"] < 0.6 * before
    codes = torch.cat(trainer.predict(module, make_data(mnist_dir)))
    assert codes.shape == (128, 4)


def test_pictures_without_labels_do(recwarn):
    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, place: int) -> Tensor:
            return torch.full((1, 28, 28), place / 8)

    loader = DataLoader(Pictures(), batch_size=4)
    make_trainer().fit(VAEModule(**SMALL), loader, loader)


def test_checkpoint_holds_plain_values_only(mnist_dir, tmp_path):
    module = VAEModule(**SMALL, likelihood="gaussian", free_bits=0.5)
    trainer = make_trainer(limit_train_batches=1, limit_val_batches=0)
    trainer.fit(module, make_data(mnist_dir))
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    content = load_plain(tmp_path / "vae.ckpt", refused="refused", damaged="damaged")
    assert isinstance(content, dict)
    assert content["hyper_parameters"]["widths"] == [4, 8]
    loaded = VAEModule.load_from_checkpoint(tmp_path / "vae.ckpt", weights_only=True)
    assert (loaded.likelihood, loaded.free_bits, loaded.input_shape) == ("gaussian", 0.5, (1, 28, 28))
    pictures = torch.rand(2, 1, 28, 28)
    assert torch.equal(loaded.eval()(pictures), module.eval()(pictures))


def test_data_of_another_shape(mnist_dir):
    with pytest.raises(
        InputError, match=r"MNISTDataModule has images of shape \(1, 28, 28\), VAEModule takes \(3, 32, 32\)"
    ):
        make_trainer().fit(VAEModule(latent_size=4, widths=(4,)), make_data(mnist_dir))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood must be 'bce' or 'gaussian', got 'poisson'"),
        ({"kl_weight": -1.0}, "kl_weight must be at least 0 and finite, got -1.0"),
        ({"kl_warmup": math.inf}, "kl_warmup must be at least 0 and finite, got inf"),
        ({"free_bits": math.nan}, "free_bits must be at least 0 and finite, got nan"),
        ({"latent_size": 0}, "latent_size must be at least 1, got 0"),
        ({"widths": []}, r"widths must be numbers of channels, each at least 1, got \[\]"),
        ({"widths": (4, 4, 4)}, r"pictures of shape \(1, 28, 28\) cannot be halved 3 times, .* multiples of 8"),
        ({"input_shape": (1, 0, 28)}, r"image_shape must be \(C, H, W\), each at least 1"),
        ({"scheduler_interval": "batch"}, "scheduler_interval must be 'epoch' or 'step', got 'batch'"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        VAEModule(**{**SMALL, **settings})


def test_codes_drawn_alike_have_the_mean_and_the_covariance_of_the_given_ones():
    generator = torch.Generator().manual_seed(0)
    codes = (
        torch.randn(50, 3, generator=generator) @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.3]]) + 4
    )
    drawn = draw_alike(codes, 100_000, generator)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), atol=0.05, rtol=0.02)
    # Of two, all lie on the line through both.
    ends = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    line = draw_alike(ends, 5, generator)
    torch.testing.assert_close(line[:, 1], 2 * line[:, 0])


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_training_in_other_precisions(mnist_dir, tmp_path, precision):
    logger = TensorBoardLogger(tmp_path)
    callback = VAEPicturesCallback(embeddings=20, animate=False)
    trainer = make_trainer(precision=precision, limit_train_batches=2, callbacks=[callback], logger=logger)
    trainer.fit(VAEModule(**SMALL), make_data(mnist_dir))
    assert 0.5 < trainer.callback_metrics["val/reconstruction"] < 1
    assert len(list(tmp_path.rglob("epoch_0001/*.png"))) == 4
    assert list(tmp_path.rglob("tensors.tsv"))
