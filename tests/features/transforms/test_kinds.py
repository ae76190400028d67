"""Crops, flips, perspective, noise, colours and blur, each against a naive counterpart."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import (
    Blur,
    ColorJitter,
    GaussianNoise,
    Perspective,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    Transform,
    UniformNoise,
)
from fvlightning.features.transforms.pixels import random_fields

TRANSFORMS: list[Transform] = [
    RandomAffine(flip=True),
    RandomResizedCrop(),
    RandomResizedCrop((0.45, 1.05), degrees=15, flip=True),
    RandomFlip(),
    Perspective(),
    GaussianNoise(),
    UniformNoise((0.0, 0.2)),
    ColorJitter(),
    Blur(),
]


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_each_picture_has_its_own_draw_whatever_its_batch(transform: Transform, channels: int):
    same = torch.rand(1, channels, 9, 12).expand(4, -1, -1, -1)
    draws = torch.rand(4, transform.n_draws)
    draws[:2, -1], draws[2:, -1] = 0.2, 0.9  # with and without a flip
    together = transform(same, draws)
    assert together.shape == same.shape
    for i in range(4):
        alone = transform(same[i : i + 1], draws[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[3]).abs().max() > 1e-3


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_gradients_reach_a_pictures_own_pixels_only_in_double_precision_too(transform: Transform):
    pictures = torch.rand(3, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    transformed = transform(pictures, torch.rand(3, transform.n_draws, dtype=torch.float64))
    assert transformed.dtype == torch.float64
    (gradients,) = torch.autograd.grad(transformed[1].square().sum(), pictures)
    assert gradients[1].any()
    assert not gradients[[0, 2]].any()


def test_a_crop_of_half_a_side_is_that_part_enlarged():
    picture = torch.rand(1, 2, 12, 20)
    crop = RandomResizedCrop((0.5, 0.5))
    for across, down in [(0.0, 0.0), (1.0, 0.5), (0.5, 1.0)]:
        left, top = round(10 * across), round(6 * down)
        part = picture[..., top : top + 6, left : left + 10]
        expected = F.interpolate(part, (12, 20), mode="bilinear", align_corners=False)
        seen = crop(picture, torch.tensor([[across, down, 0.3, 0.7]]))
        # At its border a crop also shows the pixels beside it, which the part does not have.
        torch.testing.assert_close(seen[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_a_crop_larger_than_the_picture_shows_all_of_it_with_its_mirror_images_around():
    picture = torch.rand(1, 1, 8, 8)
    seen = RandomResizedCrop((2.0, 2.0))(picture, torch.tensor([[0.5, 0.5, 0.0, 0.5]]))
    mirrored = F.pad(picture, [4] * 4, mode="replicate")
    mirrored[..., :4, :] = mirrored[..., 4:8, :].flip(-2)
    mirrored[..., -4:, :] = mirrored[..., 8:12, :].flip(-2)
    mirrored[..., :4] = mirrored[..., 4:8].flip(-1)
    mirrored[..., -4:] = mirrored[..., 8:12].flip(-1)
    torch.testing.assert_close(seen, F.avg_pool2d(mirrored, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("transform", [RandomAffine(0, (1, 1), 0, flip=True), RandomResizedCrop((1, 1), flip=True)])
def test_pictures_are_mirrored_by_a_draw_below_one_half(transform: Transform):
    pictures = torch.rand(2, 3, 6, 9)
    draws = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.49], [0.5, 0.5, 0.5, 0.5, 0.5]])
    expected = torch.stack([pictures[0].flip(-1), pictures[1]])
    torch.testing.assert_close(transform(pictures, draws), expected, atol=1e-5, rtol=0)


def test_a_flip_comes_before_the_rotation():
    picture = torch.rand(1, 1, 7, 7)
    turned = RandomAffine(0, (1, 1), 90, flip=True)(picture, torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.0]]))
    torch.testing.assert_close(turned, picture.rot90(1, (2, 3)).flip(-1), atol=1e-5, rtol=0)


def test_flips_come_as_often_as_their_probability():
    pictures, draws = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1000, -1, -1, -1), torch.rand(1000, 1)
    for probability in (0.0, 0.3, 1.0):
        flipped = RandomFlip(probability)(pictures, draws)[:, 0, 0, 0] == 3
        assert torch.equal(flipped, draws[:, 0] < probability)


def naive_homography(corners: np.ndarray) -> np.ndarray:
    """Solve the eight equations of a projective map from the corners of [-1, 1]² to `corners`."""
    equations, values = [], []
    for (x, y), (u, v) in zip([(-1, -1), (1, -1), (1, 1), (-1, 1)], corners, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(equations), np.array(values)), 1).reshape(3, 3)


@pytest.mark.parametrize("border", ["reflection", "border", "grey"])
def test_perspective_moves_the_corners_to_where_they_were_drawn(border: Any):
    height, width = 7, 10
    pictures, draws = torch.rand(3, 2, height, width), torch.rand(3, 8)
    seen = Perspective(0.4, border)(pictures, draws)
    for picture, transformed, draw in zip(pictures, seen, draws.double().numpy(), strict=True):
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) + 0.4 * (2 * draw.reshape(4, 2) - 1)
        homography = naive_homography(corners)
        places = torch.zeros(1, height, width, 2)
        for row in range(height):
            for column in range(width):
                u, v, w = homography @ [2 * (column + 0.5) / width - 1, 2 * (row + 0.5) / height - 1, 1]
                places[0, row, column] = torch.tensor([u / w, v / w])
        mode = "zeros" if border == "grey" else border
        expected = F.grid_sample(picture[None] - 0.5, places, padding_mode=mode, align_corners=False) + 0.5
        torch.testing.assert_close(transformed[None], expected, atol=1e-4, rtol=0)


def test_transforms_without_strength_are_the_identity():
    pictures = torch.rand(3, 3, 8, 10)
    transforms: list[Transform] = [
        RandomResizedCrop((1, 1)),
        RandomFlip(0),
        Perspective(0),
        GaussianNoise(0),
        UniformNoise(0),
        ColorJitter(0, 0, 0, 0),
        Blur(0),
    ]
    for transform in transforms:
        torch.testing.assert_close(transform(pictures, torch.rand(3, transform.n_draws)), pictures, atol=1e-5, rtol=0)


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


def test_uniform_fields_are_uniform_and_uncorrelated():
    draws = torch.rand(6, generator=torch.Generator().manual_seed(0))
    fields = random_fields(draws, (3, 100, 110), "uniform")
    assert fields.shape == (6, 3, 100, 110)
    assert 0 <= fields.min() <= fields.max() < 1
    n_numbers = fields[0].numel()
    for field in fields:
        counts = (field * 20).long().flatten().bincount(minlength=20).double()
        chi_squared = float(((counts - n_numbers / 20) ** 2 / (n_numbers / 20)).sum())
        assert chi_squared < 60, "19 degrees of freedom: 60 is exceeded once in 200,000 times"
        assert abs(correlation(field[:, :, 1:], field[:, :, :-1])) < 0.03
        assert abs(correlation(field[:, 1:], field[:, :-1])) < 0.03
        assert abs(correlation(field[0], field[1])) < 0.05
    for i in range(6):
        for j in range(i):
            assert abs(correlation(fields[i], fields[j])) < 0.03


@pytest.mark.parametrize("shape", [(3, 100, 110), (1, 99, 101)])
def test_normal_fields_are_normal(shape: tuple[int, ...]):
    fields = random_fields(torch.rand(4), shape, "normal")
    assert fields.shape == (4, *shape)
    for field in fields:
        moments = np.array([float(field.pow(power).mean()) for power in (1, 2, 3, 4)])
        standard_errors = np.sqrt(np.array([1, 2, 15, 96]) / field.numel())
        assert (np.abs(moments - [0, 1, 0, 3]) < 5 * standard_errors).all()
        share = float((field.abs() < 1).float().mean())
        assert share == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.02)


def test_noise_depends_on_its_draw_alone():
    before = torch.get_rng_state()
    draws = torch.tensor([0.0, 0.3, 1 - 2.0**-24, 0.3])
    fields = random_fields(draws, (3, 20, 30), "normal")
    assert torch.equal(fields[1], fields[3])
    assert torch.equal(random_fields(draws[2:3], (3, 20, 30), "normal"), fields[2:3])
    torch.testing.assert_close(random_fields(draws.double(), (3, 20, 30), "normal"), fields.double())
    with torch.inference_mode():
        assert torch.equal(random_fields(draws, (3, 20, 30), "normal"), fields)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(2**22, generator=generator)
    assert torch.equal(fields[0].flatten(), table[:1800])
    assert torch.equal(fields[2].flatten(), table[-1800:])
    assert torch.equal(torch.get_rng_state(), before)


def test_pictures_of_any_size_have_noise():
    large = random_fields(torch.rand(1), (1, 1500, 1000), "normal")
    assert large.shape == (1, 1, 1500, 1000)
    assert large.std().item() == pytest.approx(1, abs=0.01)
    assert random_fields(torch.rand(2), (1, 1, 1), "uniform").shape == (2, 1, 1, 1)


def test_noise_has_the_strength_of_its_settings():
    pictures, draws = torch.full((3, 3, 64, 64), 0.5), torch.rand(3, 2)
    draws[:, 0] = torch.tensor([0.0, 0.5, 1.0])
    spread = (GaussianNoise((0.1, 0.3))(pictures, draws) - 0.5).flatten(1).std(1)
    torch.testing.assert_close(spread, torch.tensor([0.1, 0.2, 0.3]), atol=0.01, rtol=0)
    extremes = (UniformNoise(0.2)(pictures, draws) - 0.5).flatten(1)
    torch.testing.assert_close(extremes.amax(1), torch.full((3,), 0.2), atol=0.001, rtol=0)
    torch.testing.assert_close(extremes.amin(1), torch.full((3,), -0.2), atol=0.001, rtol=0)


def test_noise_grows_from_none_during_its_warmup():
    noise, plain = GaussianNoise((0.1, 0.3), warmup=0.25), GaussianNoise((0.1, 0.3))
    pictures, draws = torch.full((3, 3, 8, 8), 0.5), torch.rand(3, 2)
    full = plain(pictures, draws) - 0.5
    for progress, share in ((0.0, 0.0), (0.1, 0.4), (0.25, 1.0), (1.0, 1.0)):
        torch.testing.assert_close(noise.at(progress)(pictures, draws) - 0.5, share * full)
    assert noise.std == plain.std
    assert noise.at(0.25) is noise, "so that pictures at different steps share a batch"
    assert plain.at(0.0) is plain


@pytest.mark.parametrize(("side", "first"), [((0.2, 1.1), 1.0), ((0.2, 0.6), 0.6), ((1.2, 1.5), 1.2)])
def test_crops_shrink_from_the_whole_picture_during_their_warmup(side: tuple[float, float], first: float):
    crop, pictures = RandomResizedCrop(side, warmup=0.5), torch.rand(4, 3, 16, 16)
    draws = torch.rand(4, crop.n_draws)
    for progress, smallest in ((0.0, first), (0.25, (first + side[0]) / 2), (0.5, side[0]), (1.0, side[0])):
        expected = RandomResizedCrop((smallest, side[1]))(pictures, draws)
        torch.testing.assert_close(crop.at(progress)(pictures, draws), expected)
    assert crop.at(0.5) is crop


def test_colours_change_one_after_the_other():
    pictures = torch.rand(2, 3, 5, 6)
    draws = torch.rand(2, 7)
    seen = ColorJitter(0.2, 0.3, 0.4, 0.1)(pictures, draws)
    for picture, transformed, draw in zip(pictures, seen, 2 * draws - 1, strict=True):
        grey = picture.mean(0)
        vivid = grey + (1 + 0.4 * draw[2]) * (picture - grey)
        contrasted = picture.mean() + (1 + 0.3 * draw[1]) * (vivid - picture.mean())
        expected = contrasted + 0.2 * draw[0] + 0.1 * draw[3:6, None, None]
        torch.testing.assert_close(transformed, expected)


@pytest.mark.parametrize("sigma", [0.7, 1.5])
def test_a_blurred_point_is_a_gaussian(sigma: float):
    picture = torch.zeros(1, 2, 21, 21)
    picture[..., 10, 10] = 1
    seen = Blur((0, 2 * sigma))(picture, torch.tensor([[0.5]]))[0, 1]
    offsets = torch.arange(21) - 10.0
    bell = torch.exp(-(offsets**2) / (2 * sigma**2))
    expected = bell[:, None] * bell / bell.sum() ** 2
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=0)


def test_a_blur_wider_than_the_picture_keeps_a_picture_of_one_colour():
    pictures = torch.rand(2, 3, 1, 1).expand(-1, -1, 5, 4)
    torch.testing.assert_close(Blur(3.0)(pictures, torch.rand(2, 1)), pictures)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (RandomResizedCrop, {"side": (0, 1)}),
        (RandomResizedCrop, {"side": (1.0, 0.5)}),
        (RandomResizedCrop, {"side": (0.5, math.inf)}),
        (RandomResizedCrop, {"side": (0.5,)}),
        (RandomResizedCrop, {"degrees": math.nan}),
        (RandomResizedCrop, {"border": "zeros"}),
        (RandomFlip, {"probability": 1.1}),
        (RandomFlip, {"probability": math.nan}),
        (Perspective, {"distortion": 0.5}),
        (Perspective, {"distortion": -0.1}),
        (Perspective, {"border": "white"}),
        (GaussianNoise, {"std": -0.1}),
        (GaussianNoise, {"std": (0.2, 0.1)}),
        (GaussianNoise, {"std": (0.1, 0.2, 0.3)}),
        (GaussianNoise, {"warmup": -0.1}),
        (GaussianNoise, {"warmup": 1}),
        (UniformNoise, {"amplitude": math.nan}),
        (ColorJitter, {"brightness": -1}),
        (ColorJitter, {"contrast": 1}),
        (ColorJitter, {"saturation": 1.5}),
        (ColorJitter, {"shift": math.nan}),
        (Blur, {"sigma": -1}),
        (Blur, {"sigma": (0, math.inf)}),
    ],
)
def test_settings_out_of_range_are_refused(kind: type[Transform], settings: dict[str, Any]):
    (name,) = settings
    with pytest.raises(InputError, match=rf"{kind.__name__}\({name}="):
        kind(**settings)


@pytest.mark.parametrize(("size", "shortest"), [(16, 0.9), (100, 0.64), (400, 0.35)])
def test_crops_have_at_least_the_smallest_side_in_pixels(size: int, shortest: float):
    crop = RandomResizedCrop(side=(0.35, 1.1), smallest=64)
    _, sides = crop.part(torch.rand(2000, 3), size)
    assert sides.min().item() == pytest.approx(shortest, abs=0.01)
    assert sides.max().item() == pytest.approx(1.1, abs=0.01)
    with pytest.raises(InputError, match=r"RandomResizedCrop\(smallest=-1\)"):
        RandomResizedCrop(smallest=-1)
