"""Surveys of layers, and the layouts of activations in real families of networks."""

import pytest
import torch
from torch import nn

from fvlightning.errors import InputError
from fvlightning.features import Maximizer
from fvlightning.features.capture.survey import output_layers, survey_layers
from fvlightning.features.units import LayerCall


def test_every_call_is_described_in_the_order_of_the_pass(cnn: nn.Module):
    found = [(str(layer.layer), layer.kind, layer.shape, layer.n_units) for layer in survey_layers(cnn, (1, 8, 8))]
    assert found == [
        ("conv", "Conv2d", (4, 6, 6), 4),
        ("relu", "ReLU", (4, 6, 6), 4),
        ("flatten", "Flatten", (144,), 144),
        ("fc", "Linear", (5,), 5),
    ]
    assert not any(module._forward_hooks for module in cnn.modules())


def test_a_picture_that_the_network_cannot_take(cnn: nn.Module):
    with pytest.raises(InputError, match=r"Sequential cannot take a picture of shape \(3, 8, 8\)"):
        survey_layers(cnn, (3, 8, 8))


class Heads(nn.Module):
    """Two linear layers of five units each, of which the second is called twice, and what ends the network."""

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
    ("end", "found"),
    [
        (nn.Identity(), ["second#1", "end"]),
        (nn.Softmax(dim=1), ["end"]),
        (nn.Unflatten(1, (5, 1)), []),
        (Twofold(), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_the_layer_that_gives_the_output_is_found(end: nn.Module, found: list[str]):
    network = Heads(end)
    sizes = {str(layer): size for layer, size in output_layers(network, LAYERS, (1, 8, 8)).items()}
    assert sizes == dict.fromkeys(found, 5)
    assert not any(module._forward_hooks for module in network.modules())


def test_of_a_module_with_a_net_the_output_is_that_of_the_net():
    class Probabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Heads(nn.Identity())

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.net(pictures).softmax(dim=1)

    assert output_layers(Probabilities(), LAYERS[:3], (1, 8, 8)) == {LayerCall("second", 1): 5}


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
def test_early_middle_and_last_units_of_timms_families(name: str):
    import timm

    side, layers, sizes = FAMILIES[name]
    sized = {"img_size": side} if any(part in name for part in ("vit", "swin", "mixer")) else {}
    network = timm.create_model(name, num_classes=10, **sized)
    # timm starts some heads at zero, which have nothing to show.
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
    assert output_layers(network, named, (3, side, side)) == {named[-1]: 10}
