"""Pictures by codes of an autoencoder, and the statistics of codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Maximizer
from fvlightning.features.images import (
    CodeStatistics,
    DecorrelatedLatentImage,
    LatentImage,
    Parametrization,
    load_codes,
    measure_codes,
)
from fvlightning.features.images.codes import codes_file
from fvlightning.models import VAEModule
from fvlightning.networks import Autoencoder

SHAPE = (3, 8, 8)
SIZE = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small VAE, as the trainer writes it, with random weights."""
    torch.manual_seed(0)
    module = VAEModule(input_shape=SHAPE, latent_size=SIZE, widths=(4, 8))
    path = tmp_path_factory.mktemp("vae") / "last.ckpt"
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Autoencoder:
    return VAEModule.load_from_checkpoint(checkpoint, weights_only=True).eval().net


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def classifier() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_a_picture_is_the_decoders_output_for_the_code(checkpoint: Path, network: Autoencoder):
    codes = torch.randn(3, SIZE)
    expected = network.decoder(codes)
    for image in (LatentImage(checkpoint), LatentImage(network), LatentImage(network.decoder)):
        torch.testing.assert_close(image(codes, SHAPE), expected)
    start = LatentImage(checkpoint).initial_parameters(SHAPE, torch.Generator().manual_seed(5))
    assert torch.equal(start, torch.randn(SIZE, generator=torch.Generator().manual_seed(5)))
    # Row by row: each picture is the same whatever shares its batch.
    torch.testing.assert_close(image(codes[1:2], SHAPE), expected[1:2])


def test_a_picture_is_inverted_to_the_mean_of_its_code(network: Autoencoder):
    originals = pictures(4)
    image = LatentImage(network)
    codes = image.invert(originals)
    torch.testing.assert_close(codes, network.encoder(originals)[0])
    torch.testing.assert_close(image(codes, SHAPE), network(originals))


def test_decorrelated_codes_are_white(network: Autoencoder):
    data = pictures(400)
    image = DecorrelatedLatentImage(network, measure_codes(network, data.split(64)))
    white = np.cov(image.invert(data).numpy().T)
    # The jitter that keeps the covariance regular takes a little of each variance.
    np.testing.assert_allclose(white, np.eye(SIZE), atol=0.01)
    torch.testing.assert_close(image(image.invert(data[:5]), SHAPE), network(data[:5]), atol=1e-4, rtol=0)


def test_decorrelated_codes_start_like_those_of_the_data(network: Autoencoder):
    statistics = measure_codes(network, pictures(400))
    image = DecorrelatedLatentImage(network, statistics)
    noise = torch.randn(20_000, SIZE, generator=torch.Generator().manual_seed(0))
    codes = image._codes(noise).double()
    scale = statistics.covariance.diagonal().mean()
    torch.testing.assert_close(codes.mean(0), statistics.mean, atol=0.05 * scale.sqrt().item(), rtol=0)
    torch.testing.assert_close(torch.cov(codes.T), statistics.covariance, atol=0.05 * scale.item(), rtol=0)


def test_statistics_of_codes_equal_those_of_numpy(checkpoint: Path, network: Autoencoder, tmp_path: Path):
    data = pictures(50)
    with torch.no_grad():
        codes = network.encoder(data)[0].double().numpy()
    network.train()
    measured = measure_codes(network, data.split(7))
    assert all(module.training for module in network.modules())
    network.eval()
    np.testing.assert_allclose(measured.mean, codes.mean(0), atol=1e-6)
    np.testing.assert_allclose(measured.covariance, np.cov(codes.T), rtol=1e-4, atol=1e-9)
    assert (measured.count, measured.digest) == (50, None)
    of_file = measure_codes(checkpoint, data)
    assert of_file.digest == LatentImage(checkpoint).digest
    of_file.save(tmp_path / "codes.pt")
    read = load_codes(tmp_path / "codes.pt")
    assert torch.equal(read.mean, of_file.mean)
    assert torch.equal(read.covariance, of_file.covariance)
    assert (read.count, read.digest) == (50, of_file.digest)


def test_statistics_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    statistics = CodeStatistics(torch.zeros(2), torch.eye(2), 9)
    statistics.save(tmp_path / "codes.pt")

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        CodeStatistics(torch.ones(2), torch.eye(2), 8).save(tmp_path / "codes.pt")
    assert load_codes(tmp_path / "codes.pt").count == 9
    assert list(tmp_path.iterdir()) == [tmp_path / "codes.pt"]


def test_statistics_lie_beside_the_checkpoint(checkpoint: Path, network: Autoencoder):
    codes = Path(f"{checkpoint}.codes.pt")
    with pytest.raises(
        InputError, match=r"no statistics of codes '.*last\.ckpt\.codes\.pt'; write one with measure_codes"
    ):
        DecorrelatedLatentImage(checkpoint)
    data = pictures(100)
    measure_codes(checkpoint, data).save(codes)
    image = DecorrelatedLatentImage(checkpoint)
    expected = DecorrelatedLatentImage(network, measure_codes(network, data))
    white = torch.randn(2, SIZE)
    torch.testing.assert_close(image(white, SHAPE), expected(white, SHAPE))


@pytest.mark.parametrize("beside", ["epoch=2.ckpt", "last.ckpt"])
@pytest.mark.parametrize("asked", ["epoch=2.ckpt", "last.ckpt"])
def test_statistics_are_found_by_both_names_of_the_weights(checkpoint: Path, tmp_path: Path, beside: str, asked: str):
    shutil.copy(checkpoint, tmp_path / "epoch=2.ckpt")
    (tmp_path / "last.ckpt").symlink_to("epoch=2.ckpt")
    (tmp_path / "gone.ckpt").symlink_to("epoch=1.ckpt")
    assert codes_file(tmp_path / asked) == tmp_path / "epoch=2.ckpt.codes.pt"
    statistics = measure_codes(checkpoint, pictures(100))
    statistics.save(tmp_path / f"{beside}.codes.pt")
    assert DecorrelatedLatentImage(tmp_path / asked).codes == statistics.fingerprint()


def test_statistics_of_other_weights_are_refused(checkpoint: Path, tmp_path: Path):
    statistics = measure_codes(checkpoint, pictures(100))
    CodeStatistics(statistics.mean, statistics.covariance, 100, "0123").save(tmp_path / "codes.pt")
    with pytest.raises(InputError, match=r"statistics of the codes are of other weights than those of '.*last\.ckpt'"):
        DecorrelatedLatentImage(checkpoint, tmp_path / "codes.pt")


def test_the_covariance_of_too_few_codes_is_shrunk_with_a_warning(network: Autoencoder):
    statistics = measure_codes(network, pictures(4))
    with pytest.warns(UserWarning, match=r"4 codes are too few for the covariance of 6 numbers: it is shrunk by \d+%"):
        factor = statistics.factor()
    shrunk = (factor @ factor.T).numpy()
    # By the definition: S is shrunk towards the mean of its variances.
    sample, p, n = statistics.covariance.numpy(), SIZE, 4
    trace, squares = np.trace(sample), np.trace(sample @ sample)
    share = ((1 - 2 / p) * squares + trace**2) / ((n + 1 - 2 / p) * (squares - trace**2 / p))
    assert 0 < share < 1
    np.testing.assert_allclose(shrunk, (1 - share) * sample + share * trace / p * np.eye(p), rtol=1e-4, atol=1e-8)
    assert np.linalg.eigvalsh(shrunk).min() > 0.01 * np.linalg.eigvalsh(shrunk).max()


def test_constant_numbers_in_codes_do_no_harm():
    covariance = torch.diag(torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64))
    factor = CodeStatistics(torch.zeros(3, dtype=torch.float64), covariance, 100).factor()
    torch.testing.assert_close(factor @ factor.T, covariance, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [LatentImage, DecorrelatedLatentImage])
def test_units_are_maximised_in_one_batch_and_stand_alone(kind: type[LatentImage], network: Autoencoder):
    image = LatentImage(network)
    if kind is DecorrelatedLatentImage:
        image = DecorrelatedLatentImage(network, measure_codes(network, pictures(100)))
    target = classifier()
    maximizer = Maximizer(steps=20, image=image, transforms=[])
    together = maximizer.maximize(target, ["3:*"], SHAPE)
    alone = maximizer.maximize(target, ["3:2"], SHAPE)[0]
    torch.testing.assert_close(together[2].image, alone.image, atol=1.01 / 255, rtol=0)
    for feature in together:
        assert feature.history[-1] > feature.history[0]
        assert feature.parameters.shape == (SIZE,)


def test_the_decoder_is_left_as_it_was(network: Autoencoder):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Maximizer(steps=3, image=LatentImage(network)).maximize(classifier(), ["3:0"], SHAPE)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()


def test_settings_are_plain_and_tell_decoders_apart(checkpoint: Path, network: Autoencoder):
    image = LatentImage(checkpoint, prior_weight=0.5)
    assert Maximizer(image=image).settings.describe()["image"] == {
        "class": "LatentImage",
        "decoder": str(checkpoint),
        "digest": image.digest,
        "prior_weight": 0.5,
        "std": 1.0,
    }
    other = Autoencoder(SHAPE, SIZE, (4, 8))
    assert LatentImage(other).digest != LatentImage(network).digest
    first, second = (DecorrelatedLatentImage(network, measure_codes(network, pictures(50, seed))) for seed in (1, 2))
    assert first.settings["codes"] != second.settings["codes"]
    assert first.settings.keys() == {"class", "decoder", "digest", "prior_weight", "std", "codes"}
    json.dumps(first.settings)


def test_prior_is_a_penalty_on_the_code(network: Autoencoder):
    codes = torch.randn(3, SIZE)
    torch.testing.assert_close(LatentImage(network, prior_weight=0.3).prior(codes), 0.15 * (codes**2).sum(1))
    assert LatentImage(network).prior(codes) is None


class Linear(Parametrization):
    """A picture of one pixel a parameter, with a prior: the optimum of w·x - ‖x‖² / 2 · weight is w / weight."""

    bounded = False

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def initial_parameters(self, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(image_shape, generator=generator)

    def __call__(self, parameters: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        return parameters

    def prior(self, parameters: Tensor) -> Tensor:
        return self.weight * 0.5 * parameters.square().flatten(1).sum(1)


def test_a_picture_with_a_prior_goes_to_its_optimum():
    target = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    maximizer = Maximizer(
        steps=300,
        image=Linear(2.0),
        transforms=[],
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
    for unit, feature in enumerate(maximizer.maximize(target, ["1:*"], (1, 2, 2))):
        torch.testing.assert_close(feature.image.flatten(), target[1].weight[unit].detach() / 2, atol=1e-4, rtol=0)


def test_a_unit_that_does_not_answer_is_dead_with_a_prior_too(network: Autoencoder):
    target = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU())
    nn.init.zeros_(target[0].weight)
    nn.init.constant_(target[0].bias, -1.0)
    for prior in (0.0, 0.1):
        maximizer = Maximizer(steps=5, image=LatentImage(network, prior_weight=prior), transforms=[])
        assert maximizer.maximize(target, ["1:0"], SHAPE)[0].status == "dead"


def test_a_latent_image_is_set_from_yaml(checkpoint: Path):
    parser = ArgumentParser()
    parser.add_argument("--image", type=Parametrization)
    config = {
        "class_path": "fvlightning.features.LatentImage",
        "init_args": {"decoder": str(checkpoint), "prior_weight": 0.1},
    }
    image = parser.instantiate(parser.parse_object({"image": config})).image
    assert isinstance(image, LatentImage)
    assert (image.decoder, image.prior_weight) == (str(checkpoint), 0.1)


def test_networks_of_another_size_are_named(checkpoint: Path):
    target = nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
    message = r"the decoder '.*last.ckpt' makes pictures of shape \(3, 8, 8\), and the network takes \(1, 28, 28\)"
    with pytest.raises(InputError, match=message):
        Maximizer(steps=2, image=LatentImage(checkpoint)).maximize(target, ["1:0"], (1, 28, 28))


def test_files_that_are_not_a_vae_are_refused(checkpoint: Path, tmp_path: Path):
    def write(**content: object) -> str:
        path = tmp_path / "other.ckpt"
        torch.save({"pytorch-lightning_version": "2.6", **content}, path)
        return str(path)

    with pytest.raises(InputError, match=r"no checkpoint 'absent\.ckpt' of a VAE; .*mnist_vae.* or .*cifar10_vae"):
        LatentImage("absent.ckpt")
    with pytest.raises(InputError, match="is not a checkpoint of a VAE: its network is not that of VAEModule"):
        LatentImage(write(state_dict={"net.fc.weight": torch.zeros(2)}, hyper_parameters={"num_classes": 10}))
    with pytest.raises(InputError, match="is not a checkpoint of a VAE"):
        LatentImage(write(state_dict={}))
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["latent_size"] = 7
    with pytest.raises(InputError, match="is not a checkpoint of a VAE"):
        LatentImage(write(**content))
    with pytest.raises(InputError, match=r"holds more than tensors and plain values \(.*\), and is refused"):
        LatentImage(write(state_dict={}, code=subprocess.run))
    with pytest.raises(InputError, match="holds no statistics of codes"):
        DecorrelatedLatentImage(checkpoint, checkpoint)


def test_settings_out_of_range_are_refused(network: Autoencoder):
    with pytest.raises(InputError, match=r"LatentImage\(prior_weight=-1\): must be at least 0 and finite"):
        LatentImage(network, prior_weight=-1)
    with pytest.raises(InputError, match=r"DecorrelatedLatentImage\(std=inf\)"):
        DecorrelatedLatentImage(network, std=float("inf"))
    with pytest.raises(InputError, match=r"DecorrelatedLatentImage\(codes=None\): give measure_codes"):
        DecorrelatedLatentImage(network)
    with pytest.raises(InputError, match="Linear has no attribute 'latent_size'; a decoder needs latent_size"):
        LatentImage(nn.Linear(2, 3))
    with pytest.raises(InputError, match="a decoder alone has no encoder"):
        LatentImage(network.decoder).invert(pictures(1))
    other = measure_codes(Autoencoder(SHAPE, 3, (4,)), pictures(20))
    with pytest.raises(InputError, match=r"statistics are of codes of 3 numbers, the decoder 'Autoencoder' takes 6"):
        DecorrelatedLatentImage(network, other)
    with pytest.raises(InputError, match="a covariance needs at least 2 pictures"):
        measure_codes(network, pictures(1))


def test_features_import_nothing_of_lightning():
    program = "import sys, fvlightning.features; sys.exit(any(name.startswith('lightning') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
