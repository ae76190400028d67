import copy

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor

from fvlightning.data import InMemoryDataModule, TensorImages
from fvlightning.data._augment import DRAW_LIMIT, N_DRAWS, CropAndFlip, DrawingBatchSampler, DrawnImages
from fvlightning.errors import InputError


def random_images(count, channels=3, height=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def random_draws(count, seed=1):
    return torch.randint(DRAW_LIMIT, (count, N_DRAWS), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("mode", "padding"), [("reflect", 0), ("reflect", 4), ("zeros", 4), ("zeros", 20)])
def test_crop_and_flip_is_that_of_a_loop_over_padded_images(channels, flip, mode, padding):
    images, draws = random_images(40, channels), random_draws(40)
    expected = []
    for image, (down, right, mirror, *_) in zip(images.numpy(), draws.tolist(), strict=True):
        border = ((0, 0), (padding, padding), (padding, padding))
        padded = np.pad(image, border, mode="reflect" if mode == "reflect" else "constant")
        top, left = down % (2 * padding + 1), right % (2 * padding + 1)
        crop = padded[:, top : top + 6, left : left + 8]
        expected.append(crop[:, :, ::-1] if flip and mirror % 2 else crop)

    varied = CropAndFlip(padding, mode, flip)(images, draws)

    assert varied.dtype == torch.uint8
    assert np.array_equal(varied.numpy(), np.stack(expected))
    assert torch.equal(images, random_images(40, channels))


def test_all_shifts_and_both_sides_come_equally_often():
    marked = torch.zeros(9000, 1, 5, 5, dtype=torch.uint8)
    marked[:, :, 2, 2], marked[:, :, 2, 3] = 1, 2  # the middle, and its right neighbour
    varied = CropAndFlip(1, "zeros", flip=True)(marked, random_draws(9000))[:, 0]
    position = (varied == 1).flatten(1).int().argmax(1)
    neighbour = (varied == 2).flatten(1).int().argmax(1)

    counts = torch.stack([position, neighbour - position]).unique(dim=1, return_counts=True)[1]
    assert len(counts) == 3 * 3 * 2
    assert counts.float().mean() == 500
    assert (counts - 500).abs().max() < 5 * 500**0.5


@pytest.mark.parametrize(("batch_size", "ranks"), [(7, 1), (64, 1), (5, 2), (64, 3)])
def test_what_happens_to_an_image_depends_on_seed_epoch_and_image_alone(batch_size, ranks):
    images = TensorImages(random_images(30), torch.arange(30))  # the label is the image's number

    def varied(batch_size, ranks, seed=3, epoch=2):
        result = {}
        for rank in range(ranks):
            sampler = DrawingBatchSampler(images, batch_size, ranks, rank, seed)
            sampler.set_epoch(epoch)
            for drawn in sampler:
                pictures, labels, draws = DrawnImages(images)[drawn]
                result |= dict(zip(labels.tolist(), CropAndFlip(2, flip=True)(pictures, draws), strict=True))
        return torch.stack([result[number] for number in range(30)])

    expected = varied(30, 1)
    assert torch.equal(varied(batch_size, ranks), expected)
    assert not torch.equal(varied(30, 1, seed=4), expected)
    assert not torch.equal(varied(30, 1, epoch=3), expected)


class Tiny(InMemoryDataModule):
    def __init__(self, **settings):
        super().__init__(batch_size=8, val_size=10, **settings)
        self.image_shape, self.class_names = (3, 6, 8), ("a", "b")

    def load(self):
        images = TensorImages(random_images(40), torch.arange(40) % 2)
        return images, images


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 6 * 8, 1)
        self.epochs, self.evaluated = {}, []

    def training_step(self, batch, batch_idx):
        assert len(batch) == 2
        self.epochs.setdefault(self.current_epoch, []).append(batch[0])
        return self.layer(batch[0].flatten(1)).mean()

    def validation_step(self, batch, batch_idx):
        self.evaluated.append(batch[0])

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def epoch(self, number):
        return torch.cat(self.epochs[number])


def trainer(**settings):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(accelerator="cpu", **quiet | {"num_sanity_val_steps": 0} | settings)


def test_only_training_images_are_varied_and_torchs_random_state_stays():
    data, module, plain = (
        Tiny(crop_padding=2, flip=True, transforms=[v2.RandAugment()], num_workers=0),
        Recorder(),
        Recorder(),
    )
    state = torch.get_rng_state()
    trainer(max_epochs=2).fit(plain, datamodule=Tiny())
    expected_state = torch.get_rng_state()
    torch.set_rng_state(state)
    trainer(max_epochs=2).fit(module, datamodule=data)

    assert [len(picture) for picture in plain.epochs[0]] == [len(picture) for picture in module.epochs[0]]
    unchanged = (plain.epoch(0) == module.epoch(0)).flatten(1).all(1)  # both come in the same order
    assert unchanged.sum() < 6
    assert not torch.equal(module.epoch(0).sort(0).values, module.epoch(1).sort(0).values)
    assert torch.equal(torch.cat(module.evaluated[:2]), data.splits.val[:][0] / 255)
    assert torch.equal(torch.get_rng_state(), expected_state)


@pytest.mark.parametrize("workers", [0, 2])
def test_transforms_of_torchvision_have_the_random_state_of_each_image(workers):
    kinds = [v2.RandAugment(magnitude=20), v2.RandomErasing(p=1.0, value=255)]
    data, module = Tiny(transforms=kinds, num_workers=workers, seed=5), Recorder()
    trainer(max_epochs=2).fit(module, datamodule=data)

    train = data.splits.train
    for epoch in range(2):
        sampler = DrawingBatchSampler(train, 8, seed=5)
        sampler.set_epoch(epoch)
        expected = []
        for indices, draws in sampler:
            for image, seed in zip(train.images[indices], draws[:, 0].tolist(), strict=True):
                torch.manual_seed(seed)
                expected.append(kinds[1](kinds[0](image)))
        assert torch.equal((module.epoch(epoch) * 255).round().byte(), torch.stack(expected))
    assert not torch.equal(module.epoch(0), module.epoch(1))
    assert torch.equal(torch.cat(module.evaluated[:2]), data.splits.val[:][0] / 255)


@pytest.mark.parametrize(
    ("transform", "kind"),
    [(v2.Resize(4), r"torch.uint8 \(3, 4, 5\)"), (v2.ToDtype(torch.float32), r"torch.float32 \(3, 6, 8\)")],
)
def test_transforms_that_change_size_or_type_are_refused(transform, kind):
    with pytest.raises(
        InputError, match=f"transforms: .* makes {kind} of uint8 .*3, 6, 8.*; give transforms that keep"
    ):
        trainer(max_epochs=1).fit(Recorder(), datamodule=Tiny(transforms=[transform], num_workers=0))


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path):
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(max_epochs=2).fit(whole, datamodule=Tiny(crop_padding=2, flip=True))
    interrupted = trainer(max_epochs=1)
    interrupted.fit(first, datamodule=Tiny(crop_padding=2, flip=True))
    interrupted.save_checkpoint(tmp_path / "last.ckpt")
    data = Tiny(crop_padding=2, flip=True)
    trainer(max_epochs=2).fit(second, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)

    assert torch.equal(first.epoch(0), whole.epoch(0))
    assert list(second.epochs) == [1]
    assert torch.equal(second.epoch(1), whole.epoch(1))


class Stops(pl.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 6:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_resumed_within_an_epoch_goes_on_with_the_next_batch(workers, tmp_path):
    settings = {"transforms": [v2.RandAugment()], "num_workers": workers, "crop_padding": 2}
    whole, resumed = Recorder(), Recorder()
    stopped = copy.deepcopy(whole)
    trainer(max_epochs=3).fit(whole, datamodule=Tiny(**settings))
    with pytest.raises(SystemExit):
        trainer(max_epochs=3, callbacks=[Stops(tmp_path / "mid.ckpt")]).fit(stopped, datamodule=Tiny(**settings))
    trainer(max_epochs=3).fit(resumed, datamodule=Tiny(**settings), ckpt_path=tmp_path / "mid.ckpt", weights_only=True)

    assert [len(whole.epochs[epoch]) for epoch in range(3)] == [4, 4, 4]
    assert len(resumed.epochs[1]) == 2
    assert all(torch.equal(*pair) for pair in zip(resumed.epochs[1], whole.epochs[1][2:], strict=True))
    assert torch.equal(resumed.epoch(2), whole.epoch(2))
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.filterwarnings("ignore:You requested to overfit")  # says that shuffling is turned off
def test_overfitting_sees_the_images_as_they_are():
    data, module = Tiny(crop_padding=2, flip=True), Recorder()
    trainer(max_epochs=2, overfit_batches=1).fit(module, datamodule=data)

    assert torch.equal(module.epoch(0), data.splits.train[:8][0] / 255)
    assert torch.equal(module.epoch(1), module.epoch(0))


def test_half_precision_leaves_the_random_numbers_whole():
    full, half = Recorder(), Recorder()
    trainer(max_epochs=1).fit(full, datamodule=Tiny(crop_padding=3, padding_mode="zeros"))
    trainer(max_epochs=1, precision="bf16-mixed").fit(half, datamodule=Tiny(crop_padding=3, padding_mode="zeros"))

    assert torch.equal(full.epoch(0), half.epoch(0))


def test_black_borders_may_be_wider_than_the_images():
    Tiny(crop_padding=20, padding_mode="zeros").setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_padding": -1}, r"Tiny\(crop_padding=-1\): must be at least 0 pixels"),
        ({"padding_mode": "white"}, r"Tiny\(padding_mode='white'\): must be 'reflect' or 'zeros'"),
        ({"crop_padding": 6}, r"Tiny\(crop_padding=6\): must be less than the 6 pixels of the images' shorter side"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Tiny(**settings).setup()


def test_bytes_become_the_values_that_torchvision_gives_them():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    pictures, _ = Tiny().on_after_batch_transfer((images, torch.zeros(1)), 0)

    assert pictures.dtype == torch.float32
    assert torch.equal(pictures[0], to_tensor(images[0, 0].numpy()))


def test_statistics_are_those_of_the_float_pictures():
    data = Tiny()
    data.setup()
    data.splits.train.images[:, 2] = 255  # a channel of one value
    pictures = data.splits.train.images.double() / 255

    assert data.mean == pytest.approx(pictures.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(pictures.std((0, 2, 3), correction=0).tolist(), abs=1e-12)
