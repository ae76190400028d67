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
from fvlightning.io import load_plain
from fvlightning.models import VAEModule
from fvlightning.networks import to_pictures

SMALL = {"input_shape": (1, 28, 28), "latent_size": 4, "widths": (4, 8)}


def make_trainer(max_epochs=1, **options):
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, **options}
    return pl.Trainer(accelerator="cpu", max_epochs=max_epochs, enable_model_summary=False, **options)


def make_data(mnist_dir) -> MNISTDataModule:
    return MNISTDataModule(mnist_dir, batch_size=64, val_size=64)


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
    tested = losses(module, mnist_dir)
    data = make_data(mnist_dir)
    data.setup()
    pictures = data.splits.test.images / 255
    module.eval()
    with torch.no_grad():
        mean, std = module.net.encoder(pictures)
        reconstruction = F.binary_cross_entropy(module(pictures), pictures)
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1).mean()
    assert tested["test/reconstruction"] == pytest.approx(reconstruction.item(), rel=1e-4)
    assert tested["test/kl"] == pytest.approx(kl.item(), rel=1e-4)
    assert tested["test/loss"] == pytest.approx((reconstruction + 0.01 * kl).item(), rel=1e-4)


def test_free_bits_cost_what_they_are_at_least(mnist_dir):
    module = VAEModule(**SMALL, kl_weight=0.5, free_bits=100.0)
    tested = losses(module, mnist_dir)
    assert tested["test/kl"] < 100
    # The KL of all four numbers of the code is below 100 nats, so each costs 100.
    assert tested["test/loss"] == pytest.approx(tested["test/reconstruction"] + 0.5 * 4 * 100, rel=1e-5)


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


def test_pictures_without_labels_are_enough():
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


def test_data_of_another_shape_are_refused(mnist_dir):
    with pytest.raises(
        InputError, match=r"MNISTDataModule has images of shape \(1, 28, 28\), VAEModule takes \(3, 32, 32\)"
    ):
        make_trainer().fit(VAEModule(latent_size=4, widths=(4,)), make_data(mnist_dir))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "poisson"}, r"VAEModule\(likelihood='poisson'\): must be 'bce' or 'gaussian'"),
        ({"kl_weight": -1.0}, r"VAEModule\(kl_weight=-1.0\): must be at least 0 and finite"),
        ({"kl_warmup": math.inf}, r"VAEModule\(kl_warmup=inf\): must be at least 0 and finite"),
        ({"free_bits": math.nan}, r"VAEModule\(free_bits=nan\): must be at least 0 and finite"),
        ({"latent_size": 0}, r"Autoencoder\(latent_size=0\): must be at least 1"),
        ({"scheduler_interval": "batch"}, r"VAEModule\(scheduler_interval='batch'\): must be 'epoch' or 'step'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        VAEModule(**{**SMALL, **settings})


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_training_works_in_other_precisions(mnist_dir, tmp_path, precision):
    logger = TensorBoardLogger(tmp_path)
    callback = VAEPicturesCallback(embeddings=20, animate=False)
    trainer = make_trainer(precision=precision, limit_train_batches=2, callbacks=[callback], logger=logger)
    trainer.fit(VAEModule(**SMALL), make_data(mnist_dir))
    assert 0.5 < trainer.callback_metrics["val/reconstruction"] < 1
    assert len(list(tmp_path.rglob("epoch_0001/*.png"))) == 4
    assert list(tmp_path.rglob("tensors.tsv"))
