"""Layers that give several tensors, and the choice of one of them."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Capture, Direction, LayerCall, Maximizer, resolve_objectives
from fvlightning.features.capture import survey_layers
from fvlightning.features.capture.activation import tensor_keys, tensor_of

A, B, C = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([3.0])


@dataclass
class Encoded:
    hidden: Tensor
    note: str
    states: tuple[Tensor, ...]


class Attended(NamedTuple):
    values: Tensor
    weights: Tensor | None


OUTPUTS: dict[str, tuple[Any, dict[str, Tensor]]] = {
    "tuple": ((None, A, "text", (B, C)), {"1": A, "3": B}),
    "list": ([A, B], {"0": A, "1": B}),
    "mapping": ({"note": "text", "hidden": A, 3: [B]}, {"hidden": A, "3": B}),
    "dataclass": (Encoded(A, "text", (B, C)), {"hidden": A, "states": B}),
    "named tuple": (Attended(A, B), {"values": A, "weights": B}),
    "named tuple with nothing": (Attended(A, None), {"values": A}),
    "tensor": (A, {}),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_keys_lead_to_tensors(kind: str):
    output, tensors = OUTPUTS[kind]
    assert tensor_of(output) is A
    assert tensor_keys(output) == list(tensors)
    for key, tensor in tensors.items():
        assert tensor_of(output, key) is tensor


def test_parts_of_a_named_tuple_have_positions_as_well():
    assert tensor_of(Attended(A, B), "1") is B


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("tuple", "2", r"no tensor \[2\] in its output, tuple; valid: 1, 3"),
        ("tuple", "hidden", "valid: 1, 3"),
        ("mapping", "hiden", "valid: hidden, 3. Did you mean 'hidden'"),
        ("dataclass", "0", "Encoded; valid: hidden, states"),
        ("named tuple with nothing", "weights", "valid: values"),
        ("tensor", "0", r"its output is one tensor; leave '\[0\]' out"),
    ],
)
def test_a_wrong_key_is_refused_with_the_valid_ones(kind: str, key: str, message: str):
    with pytest.raises(InputError, match=message):
        tensor_of(OUTPUTS[kind][0], key)


class Attention(nn.Module):
    """Gives (values, {"weights": ..., "note": ...})."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, object]]:
        values = self.linear(pictures.flatten(1)[:, :16])
        return values, {"note": "text", "weights": pictures[:, :, :2] * 2}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.act, self.head = Attention(), nn.ReLU(inplace=True), nn.Linear(3, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        values, extra = self.attn(pictures)
        again, _ = self.attn(extra["weights"].repeat(1, 1, 2, 1))
        return self.head(self.act(values) + again)


NAMES = [LayerCall("attn"), LayerCall("attn", 0, "0"), LayerCall("attn", 0, "1"), LayerCall("attn", 1, "1")]


@pytest.mark.parametrize("more", [[], [LayerCall("head")]])
def test_several_outputs_of_one_call_in_one_pass(more: list[LayerCall]):
    network, pictures = Network(), torch.randn(5, 1, 4, 4)
    activations = Capture(network, [*NAMES, *more])(pictures)
    values, extra = network.attn(pictures)
    assert set(activations) == {*NAMES, *more}
    assert (values < 0).any()  # the in-place activation would have set them to 0
    assert torch.equal(activations[NAMES[0]].values, values)
    assert torch.equal(activations[NAMES[1]].values, values)
    assert torch.equal(activations[NAMES[2]].values, extra["weights"])
    assert torch.equal(activations[NAMES[3]].values, 2 * extra["weights"].repeat(1, 1, 2, 1)[:, :, :2])


def test_the_score_is_that_of_the_chosen_output():
    network = Network()
    texts = ["attn:1", "attn[0]:1", "attn[1]:0@1,3", "attn[1]", "attn[0]:1 - 0.1*attn[1]:0"]
    features = Maximizer(12, transforms=[]).maximize(network, texts, (1, 4, 4))
    assert [feature.name for feature in features] == texts
    with torch.no_grad():
        for feature, score in zip(
            features,
            [
                lambda values, weights: values[0, 1],
                lambda values, weights: values[0, 1],
                lambda values, weights: weights[0, 0, 1, 3],
                lambda values, weights: weights.square().mean(),
                lambda values, weights: values[0, 1] - 0.1 * weights.mean(),
            ],
            strict=True,
        ):
            values, extra = network.attn(feature.image[None])
            assert feature.score == pytest.approx(float(score(values, extra["weights"])), abs=1e-5)
    assert features[2].score > 1.5  # a pixel of a picture in [0, 1], doubled


def test_a_direction_can_name_another_output():
    network = Network()
    (feature,) = Maximizer(2, transforms=[]).maximize(network, Direction("attn#1[1]", [2.0]), (1, 4, 4))
    again = 2 * feature.image[None, :, :2].repeat(1, 1, 2, 1)
    assert feature.score == pytest.approx(2 * float((2 * again[:, :, :2]).mean()), abs=1e-5)
    with pytest.raises(InputError, match=r"no unit 1 in layer 'attn\[1\]'"):
        Maximizer(1).maximize(network, Direction("attn[1]", [2.0, 1.0]), (1, 4, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attn[weights]:0", r"layer 'attn\[weights\]': no tensor \[weights\] in its output, tuple; valid: 0, 1"),
        ("attn#1[2]:0", r"layer 'attn#1\[2\]': .*valid: 0, 1"),
        ("head[1]:0", r"layer 'head\[1\]': no output \[1\]: its output is one tensor"),
        ("attn[1]:1", r"no unit 1 in layer 'attn\[1\]', which has 1 units"),
        ("attn[1]:0@4,0", r"no position @4,0 in layer 'attn\[1\]'; its positions are 0-1,0-3"),
        ("attn#2[1]:0", "no call 2 of layer 'attn': Network calls it 2 times"),
    ],
)
def test_outputs_that_a_layer_does_not_have_are_refused(text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        resolve_objectives(Network(), [text], (1, 4, 4))
    assert "\n" not in str(caught.value)


def test_a_survey_names_every_tensor():
    surveyed = {str(layer.layer): layer.shape for layer in survey_layers(Network(), (1, 4, 4))}
    assert surveyed == {
        "attn.linear": (3,),
        "attn": (3,),
        "attn[1]": (1, 2, 4),
        "attn.linear#1": (3,),
        "attn#1": (3,),
        "attn#1[1]": (1, 2, 4),
        "act": (3,),
        "head": (2,),
    }


def test_attention_weights_of_multiheadattention_are_its_second_output():
    network = nn.Sequential(OrderedDict(cut=nn.Flatten(2), attn=SelfAttention()))
    activations = Capture(network, [LayerCall("attn.attn", 0, "1")])(torch.randn(2, 6, 2, 4))
    (weights,) = activations.values()
    assert weights.values.shape == (2, 6, 6)
    torch.testing.assert_close(weights.values.sum(1), torch.ones(2, 6))


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        attended: Tensor = self.attn(tokens, tokens, tokens)[0]
        return attended
