"""Networks run as far as needed, and the activations of their layers."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Activation, Capture, LayerCall, Maximizer
from fvlightning.features.capture import device_and_dtype, find_layer


class Raises(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        raise AssertionError("a layer ran that was not needed")


def n_hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def test_the_forward_pass_ends_at_the_last_layer_that_is_needed():
    network = nn.Sequential(OrderedDict(conv1=nn.Conv2d(1, 3, 3), relu=nn.ReLU(), rest=Raises()))
    pictures = torch.rand(2, 1, 8, 8)
    activations = Capture(network, [LayerCall("conv1"), LayerCall("relu")])(pictures)
    assert torch.equal(activations[LayerCall("conv1")].values, network.conv1(pictures))
    assert torch.equal(activations[LayerCall("relu")].values, network.conv1(pictures).relu())
    (feature,) = Maximizer(2).maximize(network, ["conv1:0"], (1, 8, 8))
    assert feature.status == "ok"
    with pytest.raises(AssertionError, match="not needed"):
        Capture(network, [LayerCall("rest")])(pictures)


def test_several_layers_at_once_and_their_gradients(cnn: nn.Module):
    pictures = torch.rand(2, 1, 8, 8, requires_grad=True)
    activations = Capture(cnn, [LayerCall("fc"), LayerCall("conv")])(pictures)
    assert set(activations) == {LayerCall("fc"), LayerCall("conv")}
    assert activations[LayerCall("conv")].tensor.shape[1:] == (4, 6, 6)
    assert activations[LayerCall("fc")].tensor.shape[1:] == (5,)
    (gradient,) = torch.autograd.grad(
        activations[LayerCall("conv")].values.sum() + activations[LayerCall("fc")].values.sum(), pictures
    )
    (expected,) = torch.autograd.grad(cnn.conv(pictures).sum() + cnn(pictures).sum(), pictures)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("layers", [["bn"], ["bn", "last"], ["conv", "bn", "last"]])
def test_activations_in_place_do_not_overwrite_the_layer_before_them(layers: list[str]):
    network = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(1, 3, 3), bn=nn.BatchNorm2d(3), relu=nn.ReLU(inplace=True), last=nn.Conv2d(3, 2, 3))
    ).eval()
    pictures = torch.randn(2, 1, 8, 8, requires_grad=True)
    activations = Capture(network, map(LayerCall, layers))(pictures)
    before = network.bn(network.conv(pictures))
    assert (before < 0).any()
    torch.testing.assert_close(activations[LayerCall("bn")].values, before)
    (gradient,) = torch.autograd.grad(activations[LayerCall("bn")].values.square().sum(), pictures)
    (expected,) = torch.autograd.grad(before.square().sum(), pictures)
    torch.testing.assert_close(gradient, expected)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act, self.unused = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.act(self.linear(self.act(self.linear(pictures.flatten(1)))))


def test_calls_of_a_module_are_counted():
    network, pictures = Twice(), torch.randn(3, 1, 2, 2)
    activations = Capture(network, [LayerCall("linear"), LayerCall("linear", 1)])(pictures)
    first = network.linear(pictures.flatten(1))
    torch.testing.assert_close(activations[LayerCall("linear")].values, first)
    torch.testing.assert_close(activations[LayerCall("linear", 1)].values, network.linear(first.relu()))
    again = Capture(network, [LayerCall("linear", 1)])
    assert torch.equal(again(pictures)[LayerCall("linear", 1)].values, again(pictures)[LayerCall("linear", 1)].values)


def test_a_call_that_is_not_made_and_a_layer_that_is_not_reached_are_refused():
    network, pictures = Twice(), torch.randn(3, 1, 2, 2)
    with pytest.raises(InputError, match="no call 2 of layer 'linear': Twice calls it 2 times, counted from 0"):
        Capture(network, [LayerCall("linear", 2)])(pictures)
    with pytest.raises(InputError, match="Twice never reaches layer 'unused'"):
        Capture(network, [LayerCall("linear"), LayerCall("unused")])(pictures)
    assert n_hooks(network) == 0


@dataclass
class Output:
    note: str
    hidden: Tensor


class Gives(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, pictures: Tensor) -> object:
        values = pictures.flatten(1)
        return {
            "tuple": (None, (values, pictures)),
            "list": [values],
            "dict": {"note": "text", "hidden": values},
            "dataclass": Output("text", values),
            "vector": values[:, 0],
            "scalar": values.sum(),
            "none": None,
        }[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "dataclass"])
def test_the_first_tensor_of_an_output_is_taken(kind: str):
    pictures = torch.rand(2, 1, 3, 3)
    activations = Capture(nn.Sequential(Gives(kind)), [LayerCall("0")])(pictures)
    assert torch.equal(activations[LayerCall("0")].values, pictures.flatten(1))


def test_one_number_a_picture_is_one_unit():
    activations = Capture(nn.Sequential(Gives("vector")), [LayerCall("0")])(torch.rand(2, 1, 3, 3))
    assert activations[LayerCall("0")].values.shape == (2, 1)


@pytest.mark.parametrize("kind", ["scalar", "none"])
def test_outputs_without_activations_are_refused(kind: str):
    network = nn.Sequential(Gives(kind))
    with pytest.raises(InputError, match="has no activations"):
        Capture(network, [LayerCall("0")])(torch.rand(2, 1, 3, 3))
    assert n_hooks(network) == 0


def test_tokens_have_their_features_in_the_second_place():
    tokens = torch.rand(2, 5, 3)
    assert torch.equal(Activation.of(tokens).values, tokens.transpose(1, 2))


class Catches(nn.Module):
    """Continues after an exception, as networks with optional parts do."""

    def __init__(self, every: type[BaseException]) -> None:
        super().__init__()
        self.conv, self.every = nn.Conv2d(1, 2, 3), every

    def forward(self, pictures: Tensor) -> Tensor | None:
        try:
            return self.conv(pictures)
        except self.every:
            return None


@pytest.mark.parametrize("every", [Exception, BaseException])
def test_networks_that_catch_exceptions_give_their_activations(every: type[BaseException]):
    network, pictures = Catches(every), torch.rand(2, 1, 5, 5)
    activations = Capture(network, [LayerCall("conv")])(pictures)
    assert torch.equal(activations[LayerCall("conv")].values, network.conv(pictures))


def test_no_hook_is_left_behind(cnn: nn.Module):
    own = cnn.conv.register_forward_hook(lambda *_: None)
    Capture(cnn, [LayerCall("conv"), LayerCall("fc")])(torch.rand(1, 1, 8, 8))
    assert n_hooks(cnn) == 1
    with pytest.raises(RuntimeError):
        Capture(cnn, [LayerCall("conv"), LayerCall("fc")])(torch.rand(1, 1, 9, 9))
    assert n_hooks(cnn) == 1
    own.remove()


def test_hooks_of_the_user_that_change_an_output_are_seen(cnn: nn.Module):
    cnn.conv.register_forward_hook(lambda _module, _inputs, output: output * 2)
    pictures = torch.rand(1, 1, 8, 8)
    assert torch.equal(Capture(cnn, [LayerCall("conv")])(pictures)[LayerCall("conv")].values, cnn.conv(pictures))


class Windows(nn.Module):
    """Attention windows: the layer takes four parts of each picture for four pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Linear(4, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.window(pictures.reshape(-1, 4)).reshape(len(pictures), -1)


def test_a_layer_whose_rows_are_not_pictures_is_refused():
    """Otherwise row i would be taken for picture i, and pictures would leak into each other."""
    with pytest.raises(InputError, match="window"):
        Capture(Windows(), [LayerCall("window")])(torch.rand(2, 1, 4, 4))


class Patches(nn.Module):
    """A vision transformer, which adds the class token after the patch embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.num_prefix_tokens = 1
        self.patch_embed, self.block = nn.Linear(4, 3), nn.Linear(3, 3)
        self.cls_token = nn.Parameter(torch.rand(1, 1, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patch_embed(pictures.reshape(len(pictures), 4, 4))
        return self.block(torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1))


def test_prefix_tokens_are_known_from_the_network():
    activation = Capture(Patches(), [LayerCall("block")])(torch.rand(2, 1, 4, 4))[LayerCall("block")]
    assert (activation.tensor.shape[1:], activation.prefix_tokens) == ((3, 5), 1)
    wrapped = nn.Module()
    wrapped.net = Patches()
    wrapped.forward = wrapped.net.forward
    assert Capture(wrapped, [LayerCall("block")])(torch.rand(2, 1, 4, 4))[LayerCall("block")].prefix_tokens == 1


def test_patch_tokens_before_the_class_token_is_added_all_belong_to_the_picture():
    activation = Capture(Patches(), [LayerCall("patch_embed")])(torch.rand(2, 1, 4, 4))[LayerCall("patch_embed")]
    assert (activation.tensor.shape[1:], activation.prefix_tokens) == ((3, 4), 0)


def test_layers_are_found_by_path_and_in_the_net_of_a_module(cnn: nn.Module):
    module = nn.Module()
    module.net = cnn
    assert find_layer(module, "conv") is find_layer(module, "net.conv") is cnn.conv
    nested = nn.Sequential(nn.Sequential(nn.Identity(), nn.ReLU()))
    assert find_layer(nested, "0.1") is nested[0][1]
    shortcut = nn.Sequential()  # has a length of 0
    assert find_layer(nn.Sequential(shortcut), "0") is shortcut


def test_an_unknown_layer_is_refused_with_the_layers_and_the_closest(cnn: nn.Module):
    with pytest.raises(
        InputError, match=r"no layer 'conv1' in Sequential; layers: conv, relu, flatten, fc\..*'conv'\?"
    ):
        Capture(cnn, [LayerCall("conv1")])
    with pytest.raises(InputError, match="no layer ''"):
        find_layer(cnn, "")
    many = nn.Sequential(*(nn.ReLU() for _ in range(40)))
    with pytest.raises(InputError, match=r"0, 1, .*, 11, \.\.\. \(40 in all\)"):
        find_layer(many, "fc")


def test_the_refusal_names_only_the_layers_of_the_net(cnn: nn.Module):
    module = nn.Module()
    module.net, module.accuracy = cnn, nn.Identity()
    with pytest.raises(InputError, match=r"no layer 'accuracy1' in Sequential; layers: conv, relu, flatten, fc$"):
        find_layer(module, "accuracy1")


def test_device_and_dtype_are_those_of_the_weights(cnn: nn.Module):
    assert device_and_dtype(cnn.double()) == (torch.device("cpu"), torch.float64)
    assert device_and_dtype(nn.ReLU()) == (torch.device("cpu"), torch.float32)


def test_a_compiled_network_gives_the_same_picture(cnn: nn.Module):
    (expected,) = Maximizer(2).maximize(cnn, ["conv:0"], (1, 8, 8))
    cnn.compile(backend="eager")
    (feature,) = Maximizer(2).maximize(cnn, ["conv:0"], (1, 8, 8))
    assert torch.equal(feature.image, expected.image)
    assert cnn(torch.rand(2, 1, 8, 8)).shape == (2, 5)
