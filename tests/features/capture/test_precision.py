"""Networks in low precision, with everything around them in full precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import (
    CPPNImage,
    Diversity,
    FourierImage,
    LaplacianImage,
    Maximizer,
    PixelImage,
    Scale,
    TotalVariation,
)
from fvlightning.features.capture import Capture, Precision, full_precision
from fvlightning.features.units import LayerCall

SHAPE = (3, 8, 8)
CPU = torch.device("cpu")


class InFullPrecision(nn.Module):
    """A network that computes in full precision whatever its caller does."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(3 * 8 * 8, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        assert torch.is_autocast_enabled("cpu")
        assert pictures.dtype == torch.float32
        with torch.autocast("cpu", enabled=False):
            return self.fc(self.flatten(pictures))


@pytest.fixture
def network() -> nn.Module:
    """Pictures (3, 8, 8); layers conv (8, 6, 6), relu, flatten, fc (4)."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 8, 3))
    network.add_module("relu", nn.ReLU())
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(8 * 6 * 6, 4))
    return network


@pytest.mark.parametrize(
    "settings",
    [
        {"image": FourierImage()},
        {"image": LaplacianImage()},
        {"image": CPPNImage()},
        {"penalties": [TotalVariation(0.1)], "transforms_per_step": 2, "importance": True, "snapshots": [2]},
        {"repeats": 2, "joint_objectives": [Diversity(layer="fc")], "pooling": "rms"},
        {"scales": [Scale(side=6, steps=2), Scale(side=8, steps=3, blur=0.5)]},
        {"initial_picture": torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_everything_but_the_network_is_in_full_precision(settings: dict[str, Any]):
    """If the network computes in full precision anyway, autocast changes no bit."""
    network = InFullPrecision()
    if "scales" in settings:
        network.flatten = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten())
    maximizer = Maximizer(**({"steps": 5} if "scales" not in settings else {}), **settings)
    with full_precision(CPU), torch.autocast("cpu"):
        features = maximizer.maximize(network, "fc:*", SHAPE)
        assert torch.is_autocast_enabled("cpu")
    network.forward = lambda pictures: network.fc(network.flatten(pictures))
    for feature, expected in zip(features, maximizer.maximize(network, "fc:*", SHAPE), strict=True):
        assert torch.equal(feature.parameters, expected.parameters)
        assert torch.equal(feature.image, expected.image)
        assert torch.equal(feature.history, expected.history)
        assert feature.score == expected.score


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_forward_pass_is_in_the_callers_precision_and_pictures_are_close(network: nn.Module, dtype: torch.dtype):
    expected = Maximizer(16).maximize(network, "fc:*", SHAPE)
    seen: set[tuple[torch.dtype, torch.dtype]] = set()
    network.conv.register_forward_hook(lambda _module, inputs, output: seen.add((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", dtype):
        # The passes that measure the layers run in the caller's precision as well.
        features = Maximizer(16).maximize(network, "fc:*", SHAPE)
    assert seen == {(torch.float32, dtype)}
    for feature, other in zip(features, expected, strict=True):
        assert feature.status == "ok"
        assert feature.image.dtype == feature.history.dtype == torch.float32
        assert (feature.image - other.image).abs().mean() < 0.02
        assert feature.score == pytest.approx(other.score, rel=0.05)


def test_the_score_is_that_of_the_network_in_the_callers_precision(network: nn.Module):
    with torch.autocast("cpu", torch.bfloat16):
        (feature,) = Maximizer(4).maximize(network, "fc:1", SHAPE)
        with torch.no_grad():
            again = network.eval()(feature.image[None])[0, 1]
    assert again.dtype == torch.bfloat16
    assert feature.score == again.item()


def test_the_caller_has_its_autocast_back_between_features(network: nn.Module):
    maximizer = Maximizer(2, batch_size=1)
    with torch.autocast("cpu", torch.float16):
        for _ in maximizer.stream(network, "fc:0-1", SHAPE):
            assert Precision.of_caller(CPU).autocast == torch.float16
        assert Precision.of_caller(CPU).autocast == torch.float16
    for _ in maximizer.stream(network, "fc:0-1", SHAPE):
        assert Precision.of_caller(CPU).autocast is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_with_weights_of_another_precision_give_close_scores(network: nn.Module, dtype: torch.dtype):
    expected = Maximizer(4, image=PixelImage()).maximize(network, "fc:*", SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        features = Maximizer(4, image=PixelImage()).maximize(network.to(dtype), "fc:*", SHAPE)
    for feature, other in zip(features, expected, strict=True):
        assert feature.image.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert feature.score == pytest.approx(other.score, abs=0.05)


def test_gradients_of_large_maps_do_not_vanish_in_half_precision():
    """The gradient of a mean over 128 x 128 places times a weight of 1e-4 is 6e-9: float16 rounds it to 0."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        network[0].weight.fill_(1e-4)
    maximizer = Maximizer(3, image=PixelImage(), transforms=[])
    expected = maximizer.maximize(network, "1:*", (1, 128, 128))
    with torch.autocast("cpu", torch.float16):
        features = maximizer.maximize(network, "1:*", (1, 128, 128))
    for feature, other in zip(features, expected, strict=True):
        assert feature.status == "ok"
        torch.testing.assert_close(feature.image, other.image, atol=0.02, rtol=0)


def test_the_loss_is_scaled_in_float16_only():
    assert [Precision(dtype).loss_scale for dtype in (None, torch.bfloat16)] == [1, 1]
    scale = Precision(torch.float16).loss_scale
    assert scale > 1
    assert torch.tensor(scale).log2().frac() == 0


def test_captured_activations_have_the_dtype_of_the_pictures(network: nn.Module):
    pictures = torch.rand(2, *SHAPE)
    layers = [LayerCall("conv"), LayerCall("fc")]
    plain = Capture(network, layers, Precision())(pictures)
    low = Capture(network, layers, Precision(torch.bfloat16))(pictures)
    for layer in layers:
        assert plain[layer].values.dtype == low[layer].values.dtype == torch.float32
        assert not torch.equal(plain[layer].values, low[layer].values)
        torch.testing.assert_close(low[layer].values, plain[layer].values, atol=0.02, rtol=0.02)
    assert not torch.is_autocast_enabled("cpu")


def test_activations_that_are_no_floats_are_not_cast():
    class Deciding(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.flatten(1) > 0.5

    activations = Capture(nn.Sequential(Deciding()), [LayerCall("0")], Precision())(torch.rand(2, *SHAPE))
    assert activations[LayerCall("0")].values.dtype == torch.bool


def test_full_precision_ends_with_the_context():
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(CPU):
            assert Precision.of_caller(CPU).autocast is None
            assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == torch.float32
        assert Precision.of_caller(CPU).autocast == torch.bfloat16
        with pytest.raises(ValueError, match="inside"), full_precision(CPU):
            raise ValueError("inside")
        assert Precision.of_caller(CPU).autocast == torch.bfloat16


class AddingItsOwn(InFullPrecision):
    """Makes a tensor by itself, as networks make position embeddings."""

    def __init__(self, note: Callable[[torch.dtype], None]) -> None:
        super().__init__()
        self.note = note

    def forward(self, pictures: Tensor) -> Tensor:
        self.note(torch.linspace(0, 1, 3).dtype)
        return self.fc(self.flatten(pictures))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_default_dtype_applies_to_the_network_only(dtype: torch.dtype):
    """Lightning sets it for ``bf16-true`` and ``64-true``, and a network makes its own tensors in it."""
    seen: set[torch.dtype] = set()
    network = AddingItsOwn(seen.add)
    expected = Maximizer(16, image=FourierImage()).maximize(network, "fc:*", SHAPE)
    assert seen == {torch.float32}
    seen.clear()
    torch.set_default_dtype(dtype)
    try:
        # The weights are unchanged: only the draws and computations around them could differ.
        features = Maximizer(16, image=FourierImage()).maximize(network, "fc:*", SHAPE)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen == {dtype}
    for feature, other in zip(features, expected, strict=True):
        assert torch.equal(feature.image, other.image)


def test_without_a_precision_nothing_is_cast(network: nn.Module):
    pictures = torch.rand(2, *SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        activations = Capture(network, [LayerCall("fc")])(pictures)
    assert activations[LayerCall("fc")].values.dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="type"):
        Capture(network.double(), [LayerCall("fc")])(pictures)
