"""Settings as plain values."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import (
    L1,
    L2,
    Alignment,
    Blur,
    ColorJitter,
    CPPNImage,
    Described,
    Diversity,
    FourierImage,
    GaussianNoise,
    LaplacianImage,
    MagnitudeConstrainedImage,
    Maximizer,
    Perspective,
    PixelImage,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    RawInput,
    TotalVariation,
    Transform,
    UniformNoise,
    ZoomingCrop,
)
from fvlightning.io import digest_of_tensors

BUILT_IN: list[tuple[type[Described], dict[str, Any]]] = [
    (PixelImage, {"bound": "clip", "std": 0.2, "decorrelate": False, "max_rms": None}),
    (LaplacianImage, {"levels": 3, "decay": 1.0, "std": 0.1, "decorrelate": False, "max_rms": 0.3}),
    (
        CPPNImage,
        {"num_layers": 2, "width": 5, "activation": "composite", "std": 0.1, "decorrelate": True, "max_rms": 0.3},
    ),
    (RawInput, {"max_norm": 2.0, "std": 0.1}),
    (RandomAffine, {"shift": 0.1, "scale": (0.8, 1.2), "degrees": 5.0, "border": "grey", "flip": True}),
    (
        RandomResizedCrop,
        {"side": (0.3, 1.0), "degrees": 5.0, "border": "grey", "flip": True, "smallest": 8, "warmup": 0.2},
    ),
    (
        ZoomingCrop,
        {"side": (0.6, 0.2), "side_std": 0.1, "center_std": 0.1, "degrees": 5.0, "border": "grey", "flip": True},
    ),
    (RandomFlip, {"probability": 0.3}),
    (Perspective, {"distortion": 0.3, "border": "grey"}),
    (GaussianNoise, {"std": (0.1, 0.2), "warmup": 0.3}),
    (UniformNoise, {"amplitude": (0.1, 0.2)}),
    (ColorJitter, {"brightness": 0.1, "contrast": 0.3, "saturation": 0.1, "shift": 0.2}),
    (Blur, {"sigma": (0.5, 1.0)}),
    (L1, {"weight": 2.0}),
    (L2, {"weight": 2.0, "squared": True}),
    (TotalVariation, {"weight": 2.0}),
    (Diversity, {"weight": 2.0, "layer": "conv2"}),
    (Alignment, {"weight": 2.0, "layer": None}),
]


@pytest.mark.parametrize(("kind", "arguments"), BUILT_IN, ids=lambda value: getattr(value, "__name__", ""))
def test_settings_of_built_in_classes_are_their_arguments(kind: type[Described], arguments: dict[str, Any]):
    assert arguments.keys() == inspect.signature(kind).parameters.keys()
    settings = kind(**arguments).settings
    assert settings == {"class": kind.__name__, **arguments}
    assert json.loads(json.dumps(settings)).keys() == settings.keys()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (FourierImage, {"decay": 1.5, "std": 0.1, "decorrelate": False, "max_rms": 0.3, "statistics": None}),
        (
            MagnitudeConstrainedImage,
            {"magnitude": None, "decay": 1.0, "contrast": 0.5, "decorrelate": False, "max_rms": 0.3},
        ),
    ],
)
def test_settings_of_a_spectrum_have_its_digest(kind: type[Described], arguments: dict[str, Any]):
    assert arguments.keys() == inspect.signature(kind).parameters.keys()
    assert kind(**arguments).settings == {"class": kind.__name__, **arguments, "digest": None}


class Masked(Transform):
    """Hides a part of the pictures."""

    n_draws = 0

    def __init__(self, mask: object) -> None:
        self._mask = mask

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures * self._mask


class Digested(Masked):
    derived = frozenset({"_mask"})

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"mask": digest_of_tensors(self._mask)}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.zeros(500, 500), "Tensor"),
        ([1, (2, torch.zeros(2))], "Tensor"),
        ({"a": {"b": torch.zeros(2)}}, "Tensor"),
        ({("a", "b"): 1}, "dict"),
        (nn.ReLU(), "ReLU"),
        (len, "builtin_function_or_method"),
        (GaussianNoise, "ABCMeta"),
    ],
)
def test_an_attribute_that_is_not_plain_is_refused_by_name(value: object, kind: str):
    message = (
        rf"^Masked\.settings: '_mask' is a {kind}, not a plain value; override the property settings and put a digest "
        r"in its place \(fvlightning\.io\.digest_of_tensors\)$"
    )
    with pytest.raises(InputError, match=message):
        _ = Masked(value).settings
    with pytest.raises(InputError, match=message):
        Maximizer(transforms=[Masked(value)]).settings.describe()


def test_a_changed_tensor_changes_the_settings_by_its_digest():
    mask = torch.ones(500, 500)
    maximizer = Maximizer(transforms=[Digested(mask)])
    before = maximizer.settings.describe()
    assert before["transforms"] == [{"class": "Digested", "mask": digest_of_tensors(mask)}]
    assert maximizer.settings.describe() == before
    mask[250, 250] = 0
    assert maximizer.settings.describe() != before


def test_nested_values_are_plain():
    nested = {"path": Path("a") / "b", "pairs": [(1, 2.5), (None, True)], "transform": Masked(3), 4: "four"}
    expected = {
        "path": "a/b",
        "pairs": [(1, 2.5), (None, True)],
        "transform": {"class": "Masked", "_mask": 3},
        4: "four",
    }
    assert Masked(nested).settings == {"class": "Masked", "_mask": expected}
