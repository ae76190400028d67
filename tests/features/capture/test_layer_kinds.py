"""Units of every kind of layer: the score is the layer's output for the picture."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, resolve_objectives

SHAPE = (1, 6, 6)


def check(network: nn.Module, layer: nn.Module, call: int, scores: dict[str, Callable[[Any], Tensor]], shape=SHAPE):
    """Make pictures, and compare each score with that of the output of a call of `layer` for the picture."""
    network.eval()
    features = Maximizer(3, transforms=[]).maximize(network, list(scores), shape)
    outputs: list[Any] = []
    # An in-place operation behind the layer overwrites its output: copy it at once.
    handle = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(_copied(output)))
    for feature, score in zip(features, scores.values(), strict=True):
        outputs.clear()
        with torch.no_grad():
            network(feature.image[None])
        assert feature.status == "ok"
        assert feature.score == pytest.approx(float(score(outputs[call])), rel=1e-4, abs=1e-5)
    handle.remove()


def _copied(output: Any) -> Any:
    return output.clone() if isinstance(output, Tensor) else output


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=10, img_size=64)


def test_scores_of_the_tokens_of_a_vision_transformer(vit: nn.Module):
    block = vit.blocks[1]
    assert vit.num_prefix_tokens == 1
    scores = {
        "blocks.1:3": lambda tokens: tokens[0, 1:, 3].mean(),  # without the class token
        "blocks.1:3@0": lambda tokens: tokens[0, 0, 3],
        "blocks.1:3@5": lambda tokens: tokens[0, 5, 3],
        "-blocks.1:3@16": lambda tokens: -tokens[0, 16, 3],
        "blocks.1": lambda tokens: tokens[0, 1:].square().mean(),
        "blocks.1:3@0 - 0.5*blocks.1:4": lambda tokens: tokens[0, 0, 3] - 0.5 * tokens[0, 1:, 4].mean(),
    }
    check(vit, block, 0, scores, (3, 64, 64))


@pytest.mark.parametrize("text", ["blocks.1:3@17", "blocks.1:3@2,2"])
def test_tokens_that_a_vision_transformer_does_not_have_are_refused(vit: nn.Module, text: str):
    with pytest.raises(InputError, match=r"no position @.* in layer 'blocks\.1'; its positions are 0-16$"):
        resolve_objectives(vit, [text], (3, 64, 64))


def test_maps_of_a_swin_transformer_have_their_channels_last():
    network = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=10, img_size=64, embed_dim=12, depths=(1, 1), num_heads=(1, 2)
    )
    scores = {
        "layers.1.blocks.0:20": lambda maps: maps[0, :, :, 20].mean(),
        "layers.1.blocks.0:20@1,6": lambda maps: maps[0, 1, 6, 20],
        "layers.1.blocks.0": lambda maps: maps.square().mean(),
    }
    assert resolve_objectives(network, ["layers.1.blocks.0:*"], (3, 64, 64))[-1].index == 23
    check(network, network.layers[1].blocks[0], 0, scores, (3, 64, 64))


class Twice(nn.Module):
    """A module that is called twice, each time with an in-place activation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.act(self.conv(self.act(self.conv(pictures))))


@pytest.mark.parametrize("call", [0, 1])
def test_each_call_of_a_module_with_an_in_place_activation_behind_it(call: int):
    network = Twice()
    nn.init.constant_(network.conv.bias, 0.2)
    suffix = "#1" if call else ""
    scores = {
        f"conv{suffix}:0": lambda maps: maps.mean(),
        f"-conv{suffix}:0@2,3": lambda maps: -maps[0, 0, 2, 3],
        f"conv{suffix}": lambda maps: maps.square().mean(),
    }
    check(network, network.conv, call, scores)


@dataclass
class Encoded:
    note: str
    maps: Tensor
    vector: Tensor


class Encoder(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(1, 3, 3)

    def forward(self, pictures: Tensor) -> Any:
        maps = self.conv(pictures)
        parts = {"note": "text", "maps": maps, "vector": maps.mean((2, 3))}
        return {"tuple": tuple(parts.values()), "mapping": parts, "dataclass": Encoded(**parts)}[self.kind]


@pytest.mark.parametrize(("kind", "key"), [("tuple", "2"), ("mapping", "vector"), ("dataclass", "vector")])
def test_scores_of_tuples_mappings_and_dataclasses(kind: str, key: str):
    network = nn.Sequential(OrderedDict(encoder=Encoder(kind)))
    check(network, network.encoder.conv, 0, {"encoder:1": lambda maps: maps[0, 1].mean()})
    check(network, network.encoder.conv, 0, {f"encoder[{key}]:1": lambda maps: maps[0, 1].mean()})
    assert [str(unit) for unit in resolve_objectives(network, [f"encoder[{key}]:*"], SHAPE)] == [
        f"encoder[{key}]:{index}" for index in range(3)
    ]
