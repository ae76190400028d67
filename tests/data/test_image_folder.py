import shutil

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from fvlightning import ClassifierModule
from fvlightning.data import ImageFolderDataModule, read_pictures
from fvlightning.errors import InputError

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


def write(folder, counts, size=(8, 8), kind="png"):
    """Write images of the classes' colours, each one a little lighter than the one before."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colour = tuple(value + number for value in COLOURS[name])
            Image.new("RGB", size, colour).save(folder / name / f"{number:03}.{kind}")


@pytest.fixture
def parted(tmp_path):
    write(tmp_path / "train", {"red": 20, "green": 12, "blue": 8})
    write(tmp_path / "val", {"red": 3, "blue": 2})
    write(tmp_path / "test", {"red": 1, "green": 2, "blue": 4})
    return tmp_path


def ready(folder, **settings):
    data = ImageFolderDataModule(folder, **settings)
    data.prepare_data()
    data.setup()
    return data


def images_of(part):
    return part[torch.arange(len(part))]


def matches(images, labels, class_names):
    """Whether each image has its label's colour."""
    colours = torch.tensor([COLOURS[name] for name in class_names])[labels]
    return ((images[:, :, 0, 0].int() - colours).clamp(min=0) <= 20).all() and (images[:, :, 0, 0] >= colours).all()


@pytest.mark.parametrize("in_memory", [True, False, "auto"])
def test_parts_are_those_of_the_folder(parted, in_memory):
    data = ready(parted, in_memory=in_memory)

    assert data.class_names == ("blue", "green", "red")
    assert data.num_classes == 3
    assert data.image_shape == (3, 8, 8)
    assert [part.labels.bincount(minlength=3).tolist() for part in data.splits] == [[8, 12, 20], [2, 0, 3], [4, 2, 1]]
    for part in data.splits:
        images, labels = images_of(part)
        assert images.dtype == torch.uint8
        assert torch.equal(labels, part.labels)
        assert matches(images, labels, data.class_names)
    assert len({image.numpy().tobytes() for image in images_of(data.splits.train)[0]}) == 40


def test_classes_of_imagenet_have_readable_names(tmp_path):
    write(tmp_path, {"red": 20, "green": 20})
    for name, synset in {"red": "n02099601", "green": "n01440764"}.items():
        (tmp_path / name).rename(tmp_path / synset)
    data = ImageFolderDataModule(tmp_path)
    assert data.class_names == ("tench", "golden retriever")
    data.setup()
    assert data.class_names == ("tench", "golden retriever")
    (tmp_path / "n01440764").rename(tmp_path / "fish")
    assert ImageFolderDataModule(tmp_path).class_names == ("fish", "n02099601")


def test_very_many_files_are_not_opened_before_training(spoilt, monkeypatch):
    monkeypatch.setattr("fvlightning.data.encoded._MOST_OPENED", 36)
    data = ready(spoilt, image_size=8, in_memory=False, val_size=0, num_workers=0, batch_size=35)
    assert [len(part) for part in data.splits] == [34, 0, 3]
    with pytest.warns(UserWarning, match=r"2 of 34 files cannot be read as images and are left out: .*(notes|broken)"):
        ((images, labels),) = data.train_dataloader()
    assert matches(images, labels, data.class_names)
    monkeypatch.setattr("fvlightning.data.encoded._MOST_OPENED", 37)
    with pytest.warns(UserWarning, match="2 of 37 files"):
        ready(spoilt, image_size=8, in_memory=False, val_size=0)


@pytest.mark.parametrize("in_memory", [True, False])
def test_parts_that_are_missing_are_held_out_stratified_and_seeded(tmp_path, in_memory):
    write(tmp_path, {"red": 20, "green": 10, "blue": 30})

    def split(**settings):
        data = ready(tmp_path, in_memory=in_memory, **settings)
        return [part.labels.bincount(minlength=3).tolist() for part in data.splits], images_of(data.splits.val)[0]

    counts, held_out = split()
    assert counts == [[24, 8, 16], [3, 1, 2], [3, 1, 2]]
    assert torch.equal(held_out, split()[1])
    assert not torch.equal(held_out, split(seed=1)[1])
    assert split(val_size=0.5, test_size=0)[0] == [[15, 5, 10], [15, 5, 10], [0, 0, 0]]
    assert split(val_size=12, test_size=6)[0] == [[21, 7, 14], [6, 2, 4], [3, 1, 2]]

    data = ready(tmp_path, in_memory=in_memory)
    together = torch.cat([images_of(part)[0] for part in data.splits])
    assert len(together.unique(dim=0)) == 60


def test_only_the_missing_part_is_held_out(tmp_path):
    write(tmp_path / "train", {"red": 20, "green": 10})
    write(tmp_path / "test", {"red": 3})

    assert [len(part) for part in ready(tmp_path).splits] == [27, 3, 3]
    with pytest.warns(UserWarning, match="test_size has no effect: .* has test images"):
        ready(tmp_path, test_size=5)


def test_without_test_images_there_is_no_loader(tmp_path):
    write(tmp_path, {"red": 20, "green": 10})
    data = ready(tmp_path, test_size=0)

    assert data.test_dataloader() == data.predict_dataloader() == []
    assert isinstance(data.val_dataloader(), DataLoader)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(InputError, match="has no test images; run validate"):
        trainer.test(ClassifierModule(network), datamodule=data)
    # Other commands take the next part that has images.
    (batch,) = read_pictures(data)
    assert torch.equal(batch.pictures, torch.cat([images for images, _ in data.val_dataloader()]).float() / 255)


def test_sizes_that_differ_need_an_image_size(tmp_path):
    write(tmp_path, {"red": 2}, size=(8, 8))
    write(tmp_path, {"green": 2}, size=(10, 20))
    with pytest.raises(InputError, match=r"2 different sizes, for example 20x10 \(000.png\) and 8x8 .*; set image_si"):
        ready(tmp_path)

    data = ready(tmp_path, image_size=(6, 12), val_size=1, test_size=0)
    assert data.image_shape == (3, 6, 12)
    images, labels = images_of(data.splits.train)
    assert images.shape == (3, 3, 6, 12)
    assert matches(images, labels, data.class_names)


def test_the_shape_is_known_early_where_it_is_given_and_grey_is_one_channel(parted):
    assert ImageFolderDataModule("nowhere", image_size=64, channels=1).image_shape == (1, 64, 64)
    assert getattr(ImageFolderDataModule("nowhere"), "image_shape", None) is None
    assert ready(parted, channels=1).splits.val[torch.arange(5)][0].shape == (5, 1, 8, 8)


@pytest.mark.parametrize("in_memory", [True, False])
def test_statistics_are_those_of_the_training_images(parted, in_memory):
    data = ready(parted, in_memory=in_memory)
    pictures = images_of(data.splits.train)[0].double() / 255

    assert data.mean == pytest.approx(pictures.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(pictures.std((0, 2, 3), correction=0).tolist())


def test_large_files_are_read_in_their_order(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 90, 100, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number}.png")
    (tmp_path / "a" / "4.png").write_bytes(bytes(20_000))
    (tmp_path / "a" / "9.png").symlink_to("nowhere")
    with pytest.warns(UserWarning, match=r"2 of 10 files .*4.png \(it is not an image\); .*9.png \(No such file"):
        data = ready(tmp_path, val_size=0, test_size=0)

    assert np.array_equal(images_of(data.splits.train)[0].permute(0, 2, 3, 1), np.delete(noise, 4, 0))


class Recorder(ClassifierModule):
    def __init__(self):
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), num_classes=3)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0])
        return super().training_step(batch, batch_idx)


def fit_and_test(data):
    with pl.utilities.seed.isolate_rng():
        torch.manual_seed(0)
        module = Recorder()
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(accelerator="cpu", max_epochs=2, **quiet)
        trainer.fit(module, datamodule=data)
        (scores,) = trainer.test(module, datamodule=data, verbose=False)
    return torch.cat(module.seen), scores


def test_worker_processes_give_what_memory_gives(parted):
    settings = {"batch_size": 16, "crop_padding": 2, "flip": True}
    seen, scores = fit_and_test(ImageFolderDataModule(parted, in_memory=True, **settings))
    by_workers, same_scores = fit_and_test(ImageFolderDataModule(parted, in_memory=False, num_workers=2, **settings))

    assert seen.shape == (80, 3, 8, 8)
    assert seen.dtype == torch.float32
    assert float(seen.max()) <= 1
    assert torch.equal(seen, by_workers)
    assert scores == same_scores


def test_windows_are_cut_out_of_the_files_in_training_only(tmp_path):
    y, x = np.mgrid[:40, :60].astype(np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.fromarray(np.stack([4 * x, 4 * y, 0 * x + number], -1)).save(tmp_path / name / f"{number}.png")
    data = ImageFolderDataModule(
        tmp_path, image_size=16, crop_area=(0.1, 0.4), batch_size=20, num_workers=0, test_size=0
    )
    data.setup()

    def epoch(number):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)
        return torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in loader]) * 255

    first = epoch(0)
    assert torch.equal(first, epoch(0))
    assert not torch.equal(first, epoch(1))
    # x and y can be read off the colours: how much of the image a picture shows.
    spans = (first[:, 0].amax((1, 2)) - first[:, 0].amin((1, 2))) * (
        first[:, 1].amax((1, 2)) - first[:, 1].amin((1, 2))
    )
    share = spans / 16 * (16 / 15) ** 2 / (40 * 60)
    assert 0.05 < share.min() < 0.2
    assert 0.25 < share.max() < 0.45
    centre = data.splits.val[torch.arange(2)][0]
    assert centre[0, 0].float().mean() == pytest.approx(4 * 29.5, abs=1)
    assert centre[0, 1].float().mean() == pytest.approx(4 * 19.5, abs=1)


@pytest.fixture
def spoilt(tmp_path):
    write(tmp_path / "train", {"red": 20, "green": 12})
    write(tmp_path / "test", {"red": 2})
    (tmp_path / "train" / "red" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "red" / ".DS_Store").write_text("hidden")
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "test" / "red" / "zero.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "train" / "green" / "broken.png")
    broken = (tmp_path / "train" / "green" / "broken.png").read_bytes()
    (tmp_path / "train" / "green" / "broken.png").write_bytes(broken[:120])
    return tmp_path


def test_files_that_cannot_be_read_are_named_in_one_warning_and_skipped(spoilt):
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        data = ready(spoilt, val_size=0)

    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("3 of 37 files cannot be read as images and are left out: ")
    for name in ("red/notes.txt (it is not an image)", "test/red/zero.png", "green/broken.png ("):
        assert name in message
    assert "hidden" not in message
    assert [len(part) for part in data.splits] == [32, 0, 2]
    images, labels = images_of(data.splits.train)
    assert matches(images, labels, data.class_names)


def test_a_file_whose_damage_shows_late_is_left_out_of_its_batch(spoilt):
    with pytest.warns(UserWarning, match="2 of 37 files"):
        data = ready(spoilt, in_memory=False, val_size=0, num_workers=0, crop_padding=1, batch_size=11)
    with pytest.warns(UserWarning, match=r"1 of 11 files cannot be read as images and are left out: .*broken.png"):
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]

    assert sum(len(pictures) for pictures, _ in batches) == sum(len(labels) for _, labels in batches) == 32
    for pictures, labels in batches:
        assert matches((pictures * 255).round(), labels, data.class_names)


def test_files_that_cannot_be_read_are_an_error_by_choice(spoilt):
    with pytest.raises(
        InputError, match=r"2 of 37 files cannot .* as images: .*notes.txt.*; remove them, or set on_error: skip"
    ):
        ready(spoilt, on_error="raise")
    (spoilt / "train" / "red" / "notes.txt").unlink()
    (spoilt / "test" / "red" / "zero.png").unlink()
    with pytest.raises(InputError, match=r"1 of 35 files .*broken.png"):
        ready(spoilt, on_error="raise")


def test_a_file_whose_damage_a_worker_finds_is_an_error_of_one_line(spoilt):
    with pytest.warns(UserWarning, match="2 of 37 files"):
        data = ready(spoilt, in_memory=False, val_size=0, num_workers=1)
    data.splits.train.on_error = "raise"
    with pytest.raises(InputError, match=r"^1 of 33 files cannot .*broken.png.*; remove them, or set .*out$") as caught:
        list(data.train_dataloader())
    assert "\n" not in str(caught.value)


def test_many_files_that_cannot_be_read_do_not_fill_the_screen(tmp_path):
    write(tmp_path, {"red": 20})
    for number in range(25):
        (tmp_path / "red" / f"{number}.txt").write_text("")
    with pytest.warns(UserWarning, match=r"25 of 45 files cannot be read as images and are left out: .*; and 15 more$"):
        ready(tmp_path)


def no_folder(folder):
    return folder / "nowhere"


def a_file(folder):
    (folder / "file").write_text("")
    return folder / "file"


def no_classes(folder):
    write(folder, {"red": 1})
    return folder / "red"


def nothing(folder):
    return folder


def no_train(folder):
    write(folder / "test", {"red": 1})
    return folder


def a_folder_above(folder):
    write(folder / "ILSVRC" / "Data" / "CLS-LOC" / "train", {"red": 1, "blue": 1})
    write(folder / "ILSVRC" / "Annotations", {"red": 1})
    return folder


def an_empty_class(folder):
    write(folder / "train", {"red": 3, "green": 3, "blue": 0})
    return folder


def a_class_of_texts(folder):
    write(folder, {"red": 3})
    (folder / "novel").mkdir()
    (folder / "novel" / "page.txt").write_text("no image")
    return folder


def a_part_without_classes(folder):
    write(folder / "train", {"red": 3, "green": 3})
    (folder / "val").mkdir()
    shutil.copy(next((folder / "train" / "red").iterdir()), folder / "val")
    return folder


def an_unknown_class(folder):
    write(folder / "train", {"red": 3, "green": 3})
    write(folder / "val", {"red": 3, "blue": 1})
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_folder, "data_dir does not exist: .*nowhere; give a folder with a subfolder"),
        (a_file, "data_dir is a file: .*file; give a folder"),
        (no_classes, "red has no classes; put images in .*red/CLASS/"),
        (nothing, "has no classes; put images in"),
        (no_train, "has test but no train; put the training images in .*/train"),
        (a_folder_above, "one folder alone, and in it a set of images: give data_dir .*ILSVRC/Data/CLS-LOC$"),
        (an_empty_class, "no image of 'blue' can be read in .*train; add images there, or remove their folders"),
        (a_class_of_texts, "no image of 'novel' can be read"),
        (a_part_without_classes, r"val has no classes; put .*val/CLASS/, .* \(the training images have green, red\)"),
        (an_unknown_class, "val has classes that the training images do not have: 'blue'; their classes: green, red"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as caught:
        ready(make(tmp_path))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"batch_size=0\): must be at least 1"),
        ({"channels": 4}, r"channels=4\): must be 3 for RGB or 1 for grey"),
        ({"image_size": 0}, r"image_size=0\): must be at least 1 pixel"),
        ({"image_size": (8, 0)}, r"image_size=\(8, 0\)\): must be at least 1 pixel"),
        ({"val_size": 1.0}, r"val_size=1.0\): must be a number of images, at least 0, or a fraction in \[0, 1\)"),
        ({"test_size": -1}, r"test_size=-1\): must be a number of images"),
        ({"crop_area": (0.5, 0.2)}, r"crop_area=\(0.5, 0.2\)\): must be two fractions"),
        ({"crop_area": (0.2, 1.0), "in_memory": True}, "leave out in_memory: true, or crop_area"),
        ({"in_memory": "no"}, r"in_memory='no'\): must be true, false or 'auto'"),
        ({"num_workers": -1}, r"num_workers=-1\): must be at least 0"),
        ({"on_error": "ignore"}, r"on_error='ignore'\): must be 'skip' or 'raise'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=rf"ImageFolderDataModule\(.*{message}"):
        ImageFolderDataModule("folder", **settings)


def test_held_out_parts_that_leave_nothing_to_train_on_are_refused(tmp_path):
    write(tmp_path, {"red": 5, "green": 5})
    with pytest.raises(InputError, match=r"val_size=5000\): must leave some of the 10 training images to train on"):
        ready(tmp_path, val_size=5000)
    with pytest.raises(InputError, match=r"test_size=4\): must leave some of the 4 training images"):
        ready(tmp_path, val_size=6, test_size=4)
