"""Smaller pictures in the first steps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features import CoarseToFine, GaussianNoise, Maximizer, RandomResizedCrop, Transform
from fvlightning.features.transforms import transformed_shapes

SHAPE = (3, 32, 48)


class Noting(Transform):
    """Changes nothing, and notes the sizes of the pictures."""

    n_draws = 0

    def __init__(self) -> None:
        self._sizes: list[tuple[int, ...]] = []

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        self._sizes.append(tuple(pictures.shape[-2:]))
        return pictures


def test_a_reduced_ramp_is_a_ramp():
    ramp = ((torch.arange(12) + 0.5) / 12).expand(1, 3, 8, 12)
    reduced = CoarseToFine(0.5)(ramp, torch.zeros(1, 0))
    expected = ((torch.arange(6) + 0.5) / 6).expand(1, 3, 4, 6)
    # The outermost pixels have nothing to one side.
    torch.testing.assert_close(reduced[..., 1:-1], expected[..., 1:-1])


def test_the_first_share_of_the_steps_sees_smaller_pictures():
    network, noting = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), Noting()
    maximizer = Maximizer(10, transforms=[RandomResizedCrop(), CoarseToFine(0.5, share=0.6), noting])
    (feature,) = maximizer.maximize(network, ["0:1"], SHAPE)
    assert feature.image.shape == SHAPE
    assert noting._sizes == [(16, 24)] * 6 + [(32, 48)] * 4


def test_the_shapes_of_all_steps_are_known():
    transforms = [RandomResizedCrop(), CoarseToFine(0.715), GaussianNoise()]
    assert transformed_shapes(transforms, (3, 224, 224)) == [(3, 160, 160), (3, 224, 224)]
    assert transformed_shapes([], SHAPE) == [SHAPE]


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("0:1@9,9", r"transforms=\.\.\.\): makes pictures of 8 x 8 pixels: no position @9,9 in layer '0'"),
        ("2:1", r"transforms=\.\.\.\): makes pictures of 8 x 8 pixels: Sequential cannot take a picture"),
    ],
)
def test_units_that_a_smaller_picture_does_not_have_are_named(unit: str, message: str):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
    maximizer = Maximizer(4, transforms=[CoarseToFine(0.5)])
    with pytest.raises(InputError, match=message):
        maximizer.maximize(network, [unit], (3, 16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"side": 0.0}, "side=0.0"), ({"side": 1.5}, "side=1.5"), ({"share": 1.0}, "share=1.0"), ({"share": -1}, "share")],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        CoarseToFine(**settings)
