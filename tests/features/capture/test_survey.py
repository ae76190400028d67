"""Sizes and surveys of layers, and the layouts of activations in real families of networks."""

import pytest
import torch
from torch import nn

from fvlightning.errors import InputError
from fvlightning.features import LayerCall, Maximizer, measure_layers
from fvlightning.features.capture import class_layers, survey_layers

SHAPE = (1, 8, 8)


def test_measured_layers_have_the_sizes_of_their_outputs(cnn: nn.Module):
    sizes = measure_layers(cnn, [LayerCall("conv"), LayerCall("fc")], SHAPE)
    assert sizes == {LayerCall("conv"): (4, 6, 6), LayerCall("fc"): (5,)}


def test_measuring_changes_neither_the_network_nor_the_random_state(wide_cnn: nn.Module):
    wide_cnn.drop.eval()
    before = {name: value.clone() for name, value in wide_cnn.state_dict().items()}
    state = torch.get_rng_state()
    measure_layers(wide_cnn, [LayerCall("fc")], (1, 12, 12))
    assert all(torch.equal(value, before[name]) for name, value in wide_cnn.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert wide_cnn.training
    assert not wide_cnn.drop.training


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 8, 8), (1, 2, 2), (1, 8), (1, -8, 8), (1, 0, 0)])
def test_a_picture_that_the_network_cannot_take_is_refused(cnn: nn.Module, shape: tuple[int, ...]):
    with pytest.raises(InputError, match="Sequential cannot take a picture of shape") as caught:
        measure_layers(cnn, [LayerCall("fc")], shape)
    assert "\n" not in str(caught.value)
    assert str(shape) in str(caught.value)


def test_a_network_in_double_precision_is_measured_in_it(cnn: nn.Module):
    assert measure_layers(cnn.double(), [LayerCall("fc")], SHAPE) == {LayerCall("fc"): (5,)}


def test_every_call_is_described_in_the_order_of_the_pass(cnn: nn.Module):
    surveys = [(str(layer.layer), layer.kind, layer.shape, layer.n_units) for layer in survey_layers(cnn, (1, 8, 8))]
    assert surveys == [
        ("conv", "Conv2d", (4, 6, 6), 4),
        ("relu", "ReLU", (4, 6, 6), 4),
        ("flatten", "Flatten", (144,), 144),
        ("fc", "Linear", (5,), 5),
    ]
    assert not any(module._forward_hooks for module in cnn.modules())


def test_a_survey_refuses_a_picture_that_the_network_cannot_take(cnn: nn.Module):
    with pytest.raises(InputError, match=r"Sequential cannot take a picture of shape \(3, 8, 8\)"):
        survey_layers(cnn, (3, 8, 8))


class Heads(nn.Module):
    """Two linear layers of five units each, the second of which is called twice, and a last module."""

    def __init__(self, end: nn.Module):
        super().__init__()
        self.first, self.second, self.end = nn.Linear(64, 5), nn.Linear(5, 5), end

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.end(self.second(self.second(self.first(pictures.flatten(1)))))


class Twofold(nn.Module):
    def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return logits, logits


LAYERS = [LayerCall("first"), LayerCall("second"), LayerCall("second", 1), LayerCall("end"), LayerCall("end", 0, "0")]


@pytest.mark.parametrize(
    ("end", "names"),
    [
        (nn.Identity(), ["second#1", "end"]),
        (nn.Softmax(dim=1), ["end"]),
        (nn.Unflatten(1, (5, 1)), []),
        (Twofold(), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_layer_that_gives_the_output_itself_has_classes(end: nn.Module, names: list[str]):
    network = Heads(end)
    sizes = {str(layer): size for layer, size in class_layers(network, LAYERS, (1, 8, 8)).items()}
    assert sizes == dict.fromkeys(names, 5)
    assert not any(module._forward_hooks for module in network.modules())


def test_the_output_of_a_module_with_a_net_is_that_of_the_net():
    class Probabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Heads(nn.Identity())

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.net(pictures).softmax(dim=1)

    assert class_layers(Probabilities(), LAYERS[:3], (1, 8, 8)) == {LayerCall("second", 1): 5}


FAMILIES = {
    "resnet10t": (64, ["conv1", "layer2.0.conv1", "fc"], [64, 128, 10]),
    "test_efficientnet": (64, ["conv_stem", "blocks.1.0", "classifier"], None),
    "convnext_atto": (64, ["stem.0", "stages.1.blocks.0.mlp.act", "head.fc"], [40, 320, 10]),
    "test_vit": (64, ["patch_embed.proj", "blocks.1.mlp.act", "head"], None),
    "swin_tiny_patch4_window7_224": (64, ["patch_embed", "layers.1.blocks.0", "head.fc"], [96, 192, 10]),
    "mobilenetv3_small_050": (64, ["conv_stem", "blocks.2.0", "classifier"], [16, 24, 10]),
    "mixer_s32_224": (64, ["stem", "blocks.1.mlp_channels.act", "head"], [512, 2048, 10]),
    "regnetx_002": (64, ["stem.conv", "s2.b1", "head.fc"], [32, 56, 10]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_units_of_early_middle_and_last_layers_of_timms_families_improve(name: str):
    import timm

    side, layers, sizes = FAMILIES[name]
    sized = {"img_size": side} if any(part in name for part in ("vit", "swin", "mixer")) else {}
    network = timm.create_model(name, num_classes=10, **sized)
    # timm initialises some heads to zero, which have nothing to show.
    nn.init.normal_(network.get_submodule(layers[-1]).weight, std=0.05)
    surveyed = {str(layer.layer): layer for layer in survey_layers(network, (3, side, side))}
    if sizes is not None:
        assert [surveyed[layer].n_units for layer in layers] == sizes
    last = [f"{layer}:{surveyed[layer].n_units - 1}" for layer in layers]
    before = [feature.score for feature in Maximizer(1).maximize(network, last, (3, side, side))]
    features = Maximizer(8).maximize(network, last, (3, side, side))
    for feature, score in zip(features, before, strict=True):
        assert feature.status == "ok"
        assert feature.image.shape == (3, side, side)
        assert torch.isfinite(feature.history).all()
        assert feature.score > score
    named = [LayerCall(layer) for layer in layers]
    assert class_layers(network, named, (3, side, side)) == {named[-1]: 10}
