"""Transforms that change over the run."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, PixelImage, RandomAffine, Transform, ZoomingCrop
from fvlightning.features.transforms.base import normal

SHAPE = (1, 8, 8)


def coordinates(size: int) -> Tensor:
    """A picture (1, 2, H, W) whose two channels are its coordinates, across and down, from -1 to 1."""
    places = (torch.arange(size) + 0.5) / size * 2 - 1
    return torch.stack([places.expand(size, size), places[:, None].expand(size, size)])[None]


def seen(transform: Transform, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle ``(B, 2)`` and the side ``(B, 2)`` of the part of the picture that each draw shows."""
    size = 64
    parts = transform(coordinates(size).expand(len(draws), -1, -1, -1), draws)
    inside = size / (size - 1)
    across, down = parts[:, 0].mean(1), parts[:, 1].mean(2)
    sides = torch.stack([across[:, -1] - across[:, 0], down[:, -1] - down[:, 0]], dim=1) / 2 * inside
    return parts.mean((2, 3)), sides


@pytest.mark.parametrize(("progress", "side"), [(0.0, 0.6), (0.25, 0.5), (1.0, 0.2)])
def test_the_part_becomes_smaller_over_the_run(progress: float, side: float):
    crop = ZoomingCrop((0.6, 0.2), center_std=0.0)
    middles, sides = seen(crop.at(progress), torch.rand(4, crop.n_draws))
    torch.testing.assert_close(middles, torch.zeros(4, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(sides, torch.full((4, 2), side), atol=1e-4, rtol=0)
    assert crop.side == (0.6, 0.2)
    assert crop.at(progress).n_draws == crop.n_draws


def test_middles_and_sides_are_normal():
    crop = ZoomingCrop((0.4, 0.1), side_std=0.1, center_std=0.05)
    draws = torch.rand(3000, crop.n_draws, generator=torch.Generator().manual_seed(0))
    middles, sides = crop.at(0).part(draws[:, :3], 8)
    # Middles run from -1 to 1 over the side: as a share of the side they are half as large.
    torch.testing.assert_close(middles.mean(0) / 2, torch.zeros(2), atol=0.004, rtol=0)
    torch.testing.assert_close(middles.std(0) / 2, torch.full((2,), 0.05), atol=0.003, rtol=0)
    assert sides.mean().item() == pytest.approx(0.4, abs=0.003)
    assert sides.std().item() == pytest.approx(0.04, abs=0.003)
    assert abs(torch.corrcoef(torch.cat([middles.T, sides[None]]))[0, 1:]).max() < 0.06


def test_the_side_stays_within_the_picture():
    for side, std in ((1.0, 0.5), (0.05, 3.0)):
        crop = ZoomingCrop((side, side), side_std=std)
        _, sides = crop.part(torch.rand(500, 3), 8)
        assert sides.min() > 0
        assert sides.max() <= 1


def test_normal_numbers_are_quantiles_of_the_normal_distribution():
    draws = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:-1]
    numbers = normal(draws)
    assert numbers.isfinite().all()
    expected = 0.5 * (1 + torch.erf(numbers / math.sqrt(2)))
    torch.testing.assert_close(expected, draws.clamp(5e-6, 1 - 5e-6), atol=1e-9, rtol=0)


def test_a_zooming_crop_may_flip():
    picture = torch.rand(1, 3, 6, 6).expand(2, -1, -1, -1)
    crop = ZoomingCrop((1.0, 1.0), center_std=0.0, flip=True)
    draws = torch.full((2, crop.n_draws), 0.5)
    draws[1, 4] = 0.2
    transformed = crop(picture, draws)
    torch.testing.assert_close(transformed[0], picture[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(transformed[1], picture[1].flip(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": (0.5, 0.0)}, "side="),
        ({"side": (1.2, 0.5)}, "side="),
        ({"side": (0.5,)}, "side="),
        ({"side_std": -0.1}, "side_std=-0.1"),
        ({"center_std": math.inf}, "center_std=inf"),
        ({"border": "mirror"}, "ZoomingCrop.border='mirror'"),
        ({"degrees": math.nan}, "ZoomingCrop.degrees=nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        ZoomingCrop(**settings)


class Fades(Transform):
    """Records the progress it is asked for, and multiplies by the rest of the run."""

    n_draws = 0

    def __init__(self, asked: list[float], now: float = 0.0) -> None:
        self.asked = asked
        self.now = now

    def at(self, progress: float) -> "Fades":
        self.asked.append(progress)
        return Fades(self.asked, progress)

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures * (1 - self.now)


@pytest.mark.parametrize(("steps", "expected"), [(5, [0, 0.25, 0.5, 0.75, 1]), (1, [0])])
def test_the_loop_asks_for_the_transform_of_each_step(cnn: nn.Module, steps: int, expected: Sequence[float]):
    asked: list[float] = []
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.0)  # noqa: E731
    maximizer = Maximizer(steps, image=PixelImage(), optimizer=sgd, transforms=[Fades(asked)])
    (feature,) = maximizer.maximize(cnn, ["fc:0"], SHAPE)
    assert asked == pytest.approx(expected)
    assert len(set(feature.history.tolist())) == steps


def test_transforms_that_do_not_change_return_themselves():
    affine = RandomAffine()
    assert affine.at(0.7) is affine


def test_a_zoomed_picture_is_the_middle_enlarged():
    picture = F.avg_pool2d(torch.rand(1, 3, 40, 40), 5, 1, 2)
    crop = ZoomingCrop((0.5, 0.5), center_std=0.0)
    expected = F.interpolate(picture[..., 10:30, 10:30], scale_factor=2, mode="bilinear")
    shown = crop(picture, torch.rand(1, crop.n_draws))
    torch.testing.assert_close(shown[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5, rtol=0)
