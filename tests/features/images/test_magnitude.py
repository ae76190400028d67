"""Magnitude spectra: measured, written, read and resampled."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images import (
    MagnitudeConstrainedImage,
    load_magnitude,
    measure_magnitude,
    natural_magnitude,
    resample_magnitude,
    save_magnitude,
)
from fvlightning.features.images.display import COLOR_CORRELATION
from fvlightning.features.images.magnitude import border_spectra, contrast
from fvlightning.io import digest_of_file


def pictures(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def naive_magnitude(given: Tensor) -> Tensor:
    """Transform each channel of each picture by itself, in NumPy."""
    matrix = np.linalg.inv(COLOR_CORRELATION.double().numpy())
    total = 0.0
    for picture in given.double().numpy():
        colors = np.log(np.clip(picture, 0.01, 0.99) / (1 - np.clip(picture, 0.01, 0.99)))
        if len(colors) == 3:
            colors = (matrix @ colors.reshape(3, -1)).reshape(colors.shape)
        total = total + np.stack([np.abs(np.fft.rfft2(channel)) for channel in colors])
    return torch.from_numpy(total / len(given)).float()


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 7, 10), (3, 6, 9)])
def test_the_mean_magnitude_is_measured(shape: tuple[int, int, int]):
    given = pictures(5, shape)
    expected = naive_magnitude(given)
    torch.testing.assert_close(measure_magnitude(given, shape, periodic=False), expected, rtol=1e-4, atol=1e-4)
    loader = [(given[:3], torch.zeros(3)), [given[3:], torch.zeros(2)]]
    torch.testing.assert_close(measure_magnitude(loader, shape, periodic=False), expected, rtol=1e-4, atol=1e-4)


def test_jumps_across_the_border_are_no_edges():
    """A ramp jumps from one side to the other; the smooth part solves Poisson's equation for the jump."""
    ramp = torch.linspace(0.1, 0.9, 32).expand(1, 32, 32)
    plain, periodic = (measure_magnitude([ramp], (1, 32, 32), periodic=choice) for choice in (False, True))
    assert periodic[0, 0, 4:].sum() < 0.2 * plain[0, 0, 4:].sum()
    assert periodic[0, 0, 0] == pytest.approx(plain[0, 0, 0].item(), abs=1e-3)
    colors = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    smooth = torch.fft.irfft2(border_spectra(colors), s=(6, 7))
    neighbours = sum(smooth.roll(shift, axis) for shift in (-1, 1) for axis in (-2, -1))
    jumps = torch.zeros(6, 7, dtype=torch.float64)
    for row in range(6):
        for column in range(7):
            here = colors[0, 0, row, column]
            # The difference from each pixel at a border to its neighbour on the other side.
            jumps[row, column] += (colors[0, 0, -1 - row, column] - here) * (row in (0, 5))
            jumps[row, column] += (colors[0, 0, row, -1 - column] - here) * (column in (0, 6))
    torch.testing.assert_close((neighbours - 4 * smooth)[0, 0], jumps, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "without pictures"),
        ([torch.rand(3, 8, 9)], r"of pictures \(3, 8, 8\) cannot take one of shape \(3, 8, 9\); resize or crop"),
        (["photo.png"], "type str"),
        ([torch.rand(3, 8, 8) * 255], r"in \[0, 1\]"),
        ([torch.full((3, 8, 8), torch.nan)], r"in \[0, 1\]"),
    ],
)
def test_pictures_that_cannot_be_measured_are_refused(given: list[object], message: str):
    with pytest.raises(InputError, match=message):
        measure_magnitude(given, (3, 8, 8))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 33, 50), (2, 9, 9)])
def test_the_natural_spectrum_falls_and_has_natural_contrast(shape: tuple[int, int, int]):
    magnitude = natural_magnitude(shape)
    assert magnitude.shape == (*shape[:2], shape[2] // 2 + 1)
    assert (magnitude[0, 0, 4] / magnitude[0, 0, 2]).item() == pytest.approx(2**-1.5, rel=1e-4)
    expected = [1.85, 1.55, 1.61] if shape[0] == 3 else [1.03] * shape[0]
    assert contrast(magnitude, shape[2]).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("width", [11, 12])
def test_contrast_is_the_deviation_of_the_picture(width: int):
    noise = torch.randn(2, 9, width)
    deviations = contrast(torch.fft.rfft2(noise).abs(), width)
    torch.testing.assert_close(deviations, noise.std((1, 2), correction=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (17, 24), (33, 33), (31, 64)])
def test_a_resampled_natural_spectrum_is_the_natural_spectrum_of_the_size(size: tuple[int, int]):
    resampled = resample_magnitude(natural_magnitude((3, 32, 32)), (3, *size))
    expected = natural_magnitude((3, *size))
    torch.testing.assert_close(resampled / expected, torch.ones_like(expected), atol=0.02, rtol=0)


def test_resampling_keeps_the_peaks_of_a_spectrum():
    """Pictures with stripes of a period of 4 pixels have them at any size."""
    striped = natural_magnitude((1, 32, 32))
    striped[:, 0, 8] *= 50
    assert resample_magnitude(striped, (1, 32, 32)) is striped
    large = resample_magnitude(striped, (1, 64, 64))
    assert (large / natural_magnitude((1, 64, 64)))[0].argmax().item() == 16
    assert contrast(large, 64).item() == pytest.approx(contrast(striped, 32).item(), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 6), (2, 5, 1), (1, 3, 3)])
def test_degenerate_sizes_are_resampled_to_finite_magnitudes(shape: tuple[int, int, int]):
    for magnitude in (natural_magnitude(shape), torch.zeros(shape[0], shape[1], shape[2] // 2 + 1)):
        resampled = resample_magnitude(magnitude, (shape[0], 8, 9))
        assert resampled.isfinite().all()
        assert (resampled >= 0).all()


@pytest.mark.parametrize("name", ["spectrum.safetensors", "spectrum.pt"])
def test_a_spectrum_is_written_and_read(name: str, tmp_path: Path):
    shape, path = (3, 12, 10), tmp_path / name
    magnitude = measure_magnitude(pictures(4, shape), shape)
    save_magnitude(magnitude, path)
    assert torch.equal(load_magnitude(path), magnitude)
    image = MagnitudeConstrainedImage(magnitude=str(path), contrast=0.5)
    torch.testing.assert_close(image.spectrum(shape), magnitude / 2)
    larger = image(torch.stack([image.initial_parameters((3, 20, 21), torch.Generator())]), (3, 20, 21))
    assert larger.shape == (1, 3, 20, 21)
    with pytest.raises(InputError, match=r"has 3 channels, the pictures have 1; .*--image_shape '\[1, 12, 10\]'`"):
        image.spectrum((1, 12, 10))


def test_settings_are_plain_and_tell_spectra_apart(tmp_path: Path):
    path = tmp_path / "spectrum.safetensors"
    save_magnitude(torch.ones(1, 4, 3), path)
    first = MagnitudeConstrainedImage(magnitude=path)
    assert first.settings == {
        "class": "MagnitudeConstrainedImage",
        "magnitude": str(path),
        "digest": digest_of_file(path),
        "decay": 1.5,
        "contrast": 1.0,
        "decorrelate": True,
        "max_rms": None,
    }
    again = pickle.loads(pickle.dumps(first))
    assert torch.equal(again.spectrum((1, 4, 4)), first.spectrum((1, 4, 4)))
    save_magnitude(2 * torch.ones(1, 4, 3), path)
    assert MagnitudeConstrainedImage(magnitude=path).settings != first.settings


class _Code:
    def __init__(self, created: Path) -> None:
        self.created = created

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.created,)


def test_a_file_that_holds_code_is_refused(tmp_path: Path):
    torch.save(_Code(tmp_path / "created"), tmp_path / "spectrum.pt")
    with pytest.raises(InputError, match="which is not run"):
        load_magnitude(tmp_path / "spectrum.pt")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(4, 4), r"no magnitude spectrum .* but shape \(4, 4\)"),
        (-torch.ones(1, 4, 3), "negative or not finite"),
        (torch.full((1, 4, 3), torch.inf), "negative or not finite"),
        ({"other": torch.ones(1, 4, 3)}, "but NoneType"),
    ],
)
def test_a_file_without_a_spectrum_is_refused(content: object, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "spectrum.pt")
    with pytest.raises(InputError, match=message):
        load_magnitude(tmp_path / "spectrum.pt")


@pytest.mark.parametrize("name", ["spectrum.safetensors", "spectrum.pt"])
def test_a_spectrum_is_written_whole_or_not_at_all(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / name
    save_magnitude(torch.ones(1, 4, 3), path)

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        save_magnitude(torch.zeros(1, 4, 3), path)
    assert torch.equal(load_magnitude(path), torch.ones(1, 4, 3))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["spectrum.safetensors", "spectrum.pt"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"no spectrum")
    with pytest.raises(InputError, match="damaged"):
        load_magnitude(tmp_path / name)
    with pytest.raises(InputError, match=r"ends with \.safetensors or \.pt"):
        save_magnitude(torch.ones(1, 4, 3), tmp_path / "spectrum.npy")
