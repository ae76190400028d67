"""Random affine transforms against a warp written out pixel by pixel; transforms in turn; draws."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import RandomAffine, Transform
from fvlightning.features.transforms import Draws, apply_transforms

MIDDLE = 0.5


def reflect(place: float, length: int) -> float:
    """Bring a place back between the outer edges of the first and the last pixel, as between two mirrors."""
    period = 2 * length
    inside = (place + 0.5) % period
    return min(inside, period - inside) - 0.5


def naive_sample(channel: NDArray[np.float64], y: float, x: float, border: str) -> float:
    """Interpolate between the four pixels around a place."""
    height, width = channel.shape
    if border == "reflection":
        y, x = reflect(y, height), reflect(x, width)
    if border != "grey":
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row, column in [(top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)]:
        weight = (1 - abs(y - row)) * (1 - abs(x - column))
        inside = 0 <= row < height and 0 <= column < width
        value += weight * (channel[row, column] if inside else 0.5)
    return value


def naive_affine(picture: Tensor, draws: Tensor, affine: RandomAffine) -> NDArray[np.float64]:
    """Rotate, scale and shift about the centre, in pixels."""
    channels, height, width = picture.shape
    shift_x, shift_y = (
        (2 * float(draw) - 1) * affine.shift * side for draw, side in zip(draws, (width, height), strict=False)
    )
    factor = affine.scale[0] + (affine.scale[1] - affine.scale[0]) * float(draws[2])
    angle = math.radians((2 * float(draws[3]) - 1) * affine.degrees)
    result = np.zeros(picture.shape)
    for channel in range(channels):
        values = picture[channel].double().numpy()
        for row in range(height):
            for column in range(width):
                y, x = row - (height - 1) / 2, column - (width - 1) / 2
                source_x = (math.cos(angle) * x - math.sin(angle) * y) / factor + shift_x + (width - 1) / 2
                source_y = (math.sin(angle) * x + math.cos(angle) * y) / factor + shift_y + (height - 1) / 2
                result[channel, row, column] = naive_sample(values, source_y, source_x, affine.border)
    return result


@pytest.mark.parametrize("border", ["reflection", "border", "grey"])
@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 6, 11), (1, 12, 5)])
def test_a_warp_rotates_scales_and_shifts_pixels_in_any_proportions(shape, border: str):
    affine = RandomAffine(shift=0.3, scale=(0.6, 1.6), degrees=60, border=border)
    pictures, draws = torch.rand(3, *shape), torch.rand(3, 4)
    transformed = affine(pictures, draws)
    assert transformed.shape == pictures.shape
    for seen, picture, draw in zip(transformed, pictures, draws, strict=True):
        np.testing.assert_allclose(seen.numpy(), naive_affine(picture, draw, affine), atol=2e-5)


def test_a_warp_without_strength_is_the_identity():
    pictures = torch.rand(4, 3, 7, 10)
    for border in ("reflection", "border", "grey"):
        affine = RandomAffine(shift=0, scale=(1, 1), degrees=0, border=border)
        torch.testing.assert_close(affine(pictures, torch.rand(4, 4)), pictures, atol=1e-5, rtol=0)


def test_the_middle_of_all_draws_is_the_identity():
    pictures = torch.rand(2, 1, 8, 6)
    affine = RandomAffine(shift=0.2, scale=(0.5, 1.5), degrees=45)
    torch.testing.assert_close(affine(pictures, torch.full((2, 4), MIDDLE)), pictures, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("across", "down"), [(2, 0), (0, 3), (-1, 2)])
def test_a_shift_moves_by_that_many_pixels(across: int, down: int):
    pictures = torch.rand(1, 2, 10, 20)
    affine = RandomAffine(shift=0.5, scale=(1, 1), degrees=0, border="grey")
    # A draw of 1 is half a side, 10 pixels across and 5 down.
    draws = torch.tensor([[MIDDLE + across / 20, MIDDLE + down / 10, 0.0, 0.0]])
    expected = torch.full_like(pictures, 0.5)
    for row in range(10):
        for column in range(20):
            if 0 <= row + down < 10 and 0 <= column + across < 20:
                expected[..., row, column] = pictures[..., row + down, column + across]
    torch.testing.assert_close(affine(pictures, draws), expected, atol=1e-5, rtol=0)


def test_a_quarter_turn_of_a_square_turns_its_pixels():
    pictures = torch.rand(1, 1, 6, 6)
    affine = RandomAffine(shift=0, scale=(1, 1), degrees=90)
    turned = affine(pictures, torch.tensor([[0.5, 0.5, 0.5, 1.0]]))
    torch.testing.assert_close(turned, pictures.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_a_scale_enlarges_about_the_centre():
    affine = RandomAffine(shift=0, scale=(0.5, 2.0), degrees=0)
    pictures = torch.zeros(1, 1, 21, 41)
    pictures[..., 10, 26] = 1
    for draw, column in [(1.0, 20 + 2 * 6), (0.0, 20 + 6 // 2)]:
        seen = affine(pictures, torch.tensor([[MIDDLE, MIDDLE, draw, MIDDLE]]))
        assert seen[0, 0, 10].argmax() == column


def test_a_batch_equals_its_pictures_one_by_one():
    same = torch.rand(1, 2, 9, 8).expand(5, -1, -1, -1)
    draws = torch.rand(5, 4)
    affine = RandomAffine(shift=0.2, degrees=40)
    together = affine(same, draws)
    for i in range(5):
        torch.testing.assert_close(together[i : i + 1], affine(same[i : i + 1], draws[i : i + 1]), atol=1e-6, rtol=0)
        assert (together[i] - together[i - 1]).abs().max() > 0.01


def test_gradients_reach_a_pictures_own_pixels_only():
    pictures = torch.rand(3, 1, 8, 8, requires_grad=True)
    transformed = RandomAffine()(pictures, torch.rand(3, 4))
    (gradients,) = torch.autograd.grad(transformed[1].sum(), pictures)
    assert gradients[1].any()
    assert not gradients[[0, 2]].any()


class Brighten(Transform):
    n_draws = 1

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures + draws[:, :, None, None]


def test_transforms_apply_in_turn_each_with_its_own_draws():
    pictures, draws = torch.rand(2, 1, 8, 8), torch.rand(2, 6)
    affine = RandomAffine()
    expected = affine(pictures + draws[:, 0, None, None, None], draws[:, 1:5]) + draws[:, 5, None, None, None]
    assert torch.equal(apply_transforms(pictures, [Brighten(), affine, Brighten()], draws), expected)
    assert apply_transforms(pictures, [], torch.empty(2, 0)) is pictures


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


CPU = torch.device("cpu")


def test_draws_of_a_picture_come_from_its_own_generator():
    together = Draws(generators(1, 2, 3), 4, CPU, block=5)
    alone = Draws(generators(2), 4, CPU, block=5)
    steps = [together.step() for _ in range(12)]
    for step in steps:
        assert step.shape == (3, 4)
        assert torch.equal(step[1:2], alone.step())
    numbers = torch.stack(steps)
    assert 0 <= numbers.min() <= numbers.max() < 1
    assert len(numbers.unique()) == numbers.numel()


@pytest.mark.parametrize("steps_before", [0, 1, 4, 5, 7])
def test_kept_draws_go_on_as_before(steps_before: int):
    some, expected = Draws(generators(1, 2, 3), 2, CPU, block=5), Draws(generators(1, 2, 3), 2, CPU, block=5)
    for _ in range(steps_before):
        some.step(), expected.step()
    some.keep([0, 2])
    for _ in range(8):
        assert torch.equal(some.step(), expected.step()[[0, 2]])


def test_draws_do_not_change_the_global_random_state():
    state = torch.get_rng_state()
    Draws(generators(1), 4, CPU).step()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": -0.1},
        {"shift": 1.0},
        {"scale": (0, 1)},
        {"scale": (1.1, 0.9)},
        {"scale": (math.nan, 1)},
        {"degrees": math.nan},
        {"degrees": math.inf},
        {"border": "zeros"},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(InputError, match=rf"RandomAffine\({name}="):
        RandomAffine(**settings)
