"""Copies of networks that give the same, in less time."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fvlightning.features import Maximizer
from fvlightning.features.capture.capture import Capture
from fvlightning.features.capture.isolation import frozen
from fvlightning.features.fast.columns import ColumnsConv2d
from fvlightning.features.fast.fast_copy import fast_copy
from fvlightning.features.fast.folding import FoldedBatchNorm2d
from fvlightning.features.fast.strided import StridedConv2d
from fvlightning.features.units import LayerCall

SHAPE = (3, 24, 24)


def batch_norm(channels: int, kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a batch norm that is far from the identity."""
    norm = kind(channels)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.normal_()
        norm.running_var.uniform_(0.1, 3)
    return norm


class Block(nn.Module):
    """What common networks are made of: a residual connection, and a convolution beside it."""

    def __init__(self, last: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = batch_norm(16)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = batch_norm(16) if last is None else last
        self.down = nn.Sequential(nn.Conv2d(16, 16, 1), batch_norm(16))

    def forward(self, values: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(values))))) + self.down(values))


def residual(last: nn.BatchNorm2d | None = None) -> nn.Module:
    """Return a network with all that a copy changes: paths conv, bn, relu, block, pool, flatten, fc."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 16, 5, 2, 2, bias=False))
    network.add_module("bn", batch_norm(16))
    network.add_module("relu", nn.ReLU(inplace=True))
    network.add_module("block", Block(last))
    network.add_module("pool", nn.AdaptiveAvgPool2d(2))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(64, 5))
    return network.eval().requires_grad_(False)


def judged(network: nn.Module, layers: list[LayerCall], shape: tuple[int, ...] = SHAPE) -> list[Tensor]:
    """Return the layers' activations, and the gradient of all of them to the pictures."""
    dtype = next(network.parameters()).dtype
    pictures = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()
    found = Capture(network, layers)(pictures)
    values = [found[layer].values for layer in layers]
    (gradient,) = torch.autograd.grad(sum(map(torch.sum, map(torch.square, values))), pictures)
    return [*values, gradient]


def copied(network: nn.Module, *layers: str, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    """Return the copy, after it was made sure that it gives what the network gives."""
    wanted = [LayerCall(layer) for layer in layers]
    quick = fast_copy(network, wanted, [shape])
    for ours, expected in zip(judged(quick, wanted, shape), judged(network, wanted, shape), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    return quick


@pytest.mark.parametrize(
    ("convolution", "kind"),
    [
        (nn.Conv2d(3, 4, 3), ColumnsConv2d),
        (nn.Conv2d(3, 4, 3, 2), ColumnsConv2d),
        (nn.Conv2d(3, 32, 4, 4), ColumnsConv2d),
        (nn.Conv2d(3, 4, 7, 2, 3), StridedConv2d),
    ],
    ids=str,
)
def test_first_convolution_has_a_gradient_of_its_own(convolution: nn.Module, kind: type[nn.Module]):
    quick = copied(nn.Sequential(convolution, nn.ReLU()).requires_grad_(False), "1")
    assert type(quick[0]) is kind


def folded_paths(network: nn.Module) -> list[str]:
    return [path for path, module in network.named_modules() if isinstance(module, FoldedBatchNorm2d)]


def test_copy_gives_the_same_and_has_the_same_paths():
    network = residual()
    quick = copied(network, "fc")
    assert folded_paths(quick) == ["bn", "block.bn1", "block.bn2", "block.down.1"]
    assert isinstance(quick.conv, ColumnsConv2d)
    assert quick.block.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert [path for path, _ in quick.named_modules()] == [path for path, _ in network.named_modules()]


def test_copy_gives_the_same_in_double_precision():
    network = residual().double()
    wanted = [LayerCall("fc")]
    quick = fast_copy(network, wanted, [SHAPE])
    assert folded_paths(quick)
    for ours, expected in zip(judged(quick, wanted), judged(network, wanted), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("wanted", "folded"),
    [
        (["conv", "fc"], ["block.bn1", "block.bn2", "block.down.1"]),
        (["bn"], ["bn"]),
        (["block.conv1"], ["bn"]),
        (["block.bn1", "block.down.0"], ["bn", "block.bn1"]),  # the second batch norm has no part in either
        (["relu", "block"], ["bn", "block.bn1", "block.bn2", "block.down.1"]),
    ],
    ids=str,
)
def test_what_is_wanted_is_not_folded_away(wanted: list[str], folded: list[str]):
    quick = copied(residual(), *wanted)
    assert folded_paths(quick) == folded


def test_activation_within_a_batch_norm_stays():
    network = residual(last=batch_norm(16, BatchNormAct2d))
    quick = copied(network, "block.bn2.act", "fc")
    assert "block.bn2" in folded_paths(quick)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_networks_of_timm(name: str):
    network = timm.create_model(name).eval().requires_grad_(False)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 2)
    layer = "layer2" if name == "resnet18" else "blocks.2"
    quick = copied(network, layer, shape=(3, 48, 64))
    assert len(folded_paths(quick)) > 5


def test_pictures_may_have_several_sizes():
    network = residual()
    quick = fast_copy(network, [LayerCall("fc")], [(3, 16, 16), SHAPE])
    assert "bn" in folded_paths(quick)


class Odd(nn.Module):
    """A convolution and a batch norm that are not simply one after the other."""

    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = batch_norm(3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(3, 4)
        self.way = way

    def forward(self, pictures: Tensor) -> Tensor:
        return self.fc(self.way(self, pictures).mean((2, 3)))


def used_twice(odd: nn.Module, pictures: Tensor) -> Tensor:
    values = odd.conv(pictures)
    return odd.bn(values) + values


def rectified_before(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(odd.relu(odd.conv(pictures)))


def rectified_by_function(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(torch.relu_(odd.conv(pictures)))


def convolution_called_twice(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(odd.conv(odd.conv(pictures)))


def norm_called_twice(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(odd.bn(odd.conv(pictures)))


def norm_first(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.conv(odd.bn(pictures))


@pytest.mark.parametrize(
    "way",
    [
        used_twice,
        rectified_before,
        rectified_by_function,
        convolution_called_twice,
        norm_called_twice,
        norm_first,
    ],
)
def test_what_cannot_be_folded_stays(way: Callable[[nn.Module, Tensor], Tensor]):
    network = Odd(way).eval().requires_grad_(False)
    assert folded_paths(copied(network, "fc")) == []


def test_weights_that_are_computed_stay():
    network = residual()
    parametrizations.weight_norm(network.block.conv1)
    network.conv.register_forward_hook(lambda *_: None)
    network.block.down[1].register_forward_pre_hook(lambda *_: None)
    network.requires_grad_(False)
    quick = copied(network, "fc")
    assert folded_paths(quick) == ["block.bn2"]
    assert not isinstance(quick.conv, ColumnsConv2d)


def test_what_hooks_of_containers_see_is_not_folded_away():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 16, 3)), batch_norm(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    network.eval().requires_grad_(False)
    assert folded_paths(copied(network, "3")) == ["1"]
    network[0].register_forward_hook(lambda *_: None)
    assert folded_paths(copied(network, "3")) == []


def test_a_second_use_that_the_picture_of_the_trial_does_not_show_is_not_folded_away():
    """Only light pictures get above the bias."""

    def way(odd: nn.Module, pictures: Tensor) -> Tensor:
        values = odd.conv(pictures)
        return odd.bn(values) + (values - 2.5).relu()

    network = Odd(way).eval().requires_grad_(False)
    network.conv.weight.fill_(3 / 27)
    network.conv.bias.zero_()
    assert folded_paths(copied(network, "fc")) == []


def test_a_network_with_a_part_in_inference_mode_is_not_stumbled_over():
    def way(odd: nn.Module, pictures: Tensor) -> Tensor:
        with torch.inference_mode():
            factor = float(odd.conv(pictures).mean())
        return pictures * factor

    copied(Odd(way).eval().requires_grad_(False), "fc")


def test_batch_norm_without_statistics_stays():
    network = residual()
    network.bn.running_mean = network.bn.running_var = None
    quick = fast_copy(network, [LayerCall("fc")], [SHAPE])
    assert folded_paths(quick) == ["block.bn1", "block.bn2", "block.down.1"]


def test_network_that_looks_at_the_order_in_memory_keeps_it():
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = residual()[:4]
            self.fc = nn.Linear(16 * 12 * 12, 4)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.fc(self.body(pictures).view(len(pictures), -1))

    quick = copied(Viewing().eval().requires_grad_(False), "fc")
    assert folded_paths(quick)
    assert not quick.body.block.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_network_that_looks_into_its_batch_norm_is_left_alone():
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = residual()[:4]

        def forward(self, pictures: Tensor) -> Tensor:
            assert isinstance(self.body.bn, nn.BatchNorm2d)
            return self.body(pictures)

    network = Looking().eval().requires_grad_(False)
    assert copied(network, "body") is network


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.jit.trace(residual(), torch.rand(1, *SHAPE)),
        lambda: residual().bfloat16(),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 4)),
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()),
    ],
    ids=["scripted", "bfloat16", "linear", "small"],
)
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # networks that were traced are still about
def test_network_itself_is_returned_where_nothing_can_be_gained(make: Callable[[], nn.Module]):
    network = make()
    last = [path for path, _ in network.named_modules()][-1]
    assert fast_copy(network.eval().requires_grad_(False), [LayerCall(last)], [SHAPE]) is network


def test_network_itself_is_returned_under_autocast():
    network = residual()
    with torch.autocast("cpu"):
        assert fast_copy(network, [LayerCall("fc")], [SHAPE]) is network


class Uncopyable:
    """Something that a module refers to, as a LightningModule does to its trainer."""

    def __deepcopy__(self, memo: object) -> "Uncopyable":
        raise AssertionError("copied")


def test_network_is_left_as_it_was_and_shares_what_is_not_changed():
    network = residual()
    network.trainer = Uncopyable()
    modules = [(path, module, dict(vars(module))) for path, module in network.named_modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]
    before = {name: values.clone() for name, values in network.state_dict().items()}
    quick = copied(network, "fc")
    assert [(path, module, dict(vars(module))) for path, module in network.named_modules()] == modules
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()] == hooks
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    assert quick.trainer is network.trainer
    assert quick.fc.weight is network.fc.weight
    assert quick.block.bn1.weight is network.block.bn1.weight
    assert len(quick.fc._forward_hooks) == 0


def test_modules_that_are_used_under_several_names_stay_one():
    network = residual()
    network.block.act = network.block.relu
    quick = copied(network, "fc")
    assert quick.block.act is quick.block.relu
    assert quick.block.act is not network.block.relu


def test_pictures_are_those_of_the_network_itself():
    network = residual().double()
    plain = residual().double()
    plain.load_state_dict(network.state_dict())
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: None)
    maximizer = Maximizer(steps=12)
    with frozen(plain):
        assert fast_copy(plain, [LayerCall("block")], [SHAPE]) is plain
    ours = maximizer.maximize(network, ["block:0-2", "conv:1", "bn:3"], SHAPE)
    expected = maximizer.maximize(plain, ["block:0-2", "conv:1", "bn:3"], SHAPE)
    for feature, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(feature.history, other.history, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(feature.image, other.image, rtol=0, atol=1 / 254)
        assert feature.score == pytest.approx(other.score, rel=1e-3)


def test_pictures_follow_a_network_that_trains():
    network, maximizer = residual(), Maximizer(steps=2)
    (before,) = maximizer.maximize(network, ["block:0"], SHAPE)
    with torch.no_grad():
        network.bn.weight.mul_(2)
        network.block.conv2.weight.mul_(-1)
    (after,) = maximizer.maximize(network, ["block:0"], SHAPE)
    (activation,) = Capture(network, [LayerCall("block")])(after.image[None]).values()
    assert after.score == pytest.approx(activation.values[0, 0].mean().item(), rel=1e-5)
    assert not torch.allclose(after.history, before.history, rtol=0.01)
