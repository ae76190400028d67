"""Copies of networks that give the same in less time."""

from collections.abc import Callable

import pytest
import torch
from fast_copies import SHAPE, checked_copy, folded_paths, residual_network
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fvlightning.features import Maximizer
from fvlightning.features.capture import Capture, frozen
from fvlightning.features.fast import fast_copy
from fvlightning.features.fast._columns import ColumnsConv2d
from fvlightning.features.fast._strided import StridedConv2d
from fvlightning.features.units import LayerCall


def test_the_copy_gives_the_same_and_has_the_same_paths():
    network = residual_network()
    fast = checked_copy(network, "fc")
    assert folded_paths(fast) == ["bn", "block.bn1", "block.bn2", "block.down.1"]
    assert isinstance(fast.conv, ColumnsConv2d)
    assert fast.block.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert [path for path, _ in fast.named_modules()] == [path for path, _ in network.named_modules()]


def test_the_copy_gives_the_same_in_double_precision():
    assert folded_paths(checked_copy(residual_network().double(), "fc", rtol=1e-11, atol=1e-12))


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
def test_the_first_convolution_computes_its_gradient_in_its_own_way(convolution: nn.Module, kind: type[nn.Module]):
    fast = checked_copy(nn.Sequential(convolution, nn.ReLU()).requires_grad_(False), "1")
    assert type(fast[0]) is kind


def test_weights_that_are_computed_or_hooked_stay():
    network = residual_network()
    parametrizations.weight_norm(network.block.conv1)
    network.conv.register_forward_hook(lambda *_: None)
    network.block.down[1].register_forward_pre_hook(lambda *_: None)
    network.requires_grad_(False)
    fast = checked_copy(network, "fc")
    assert folded_paths(fast) == ["block.bn2"]
    assert not isinstance(fast.conv, ColumnsConv2d)


def test_a_network_that_depends_on_the_order_in_memory_keeps_it():
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = residual_network()[:4]
            self.fc = nn.Linear(16 * 12 * 12, 4)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.fc(self.body(pictures).view(len(pictures), -1))

    fast = checked_copy(Viewing().eval().requires_grad_(False), "fc")
    assert folded_paths(fast)
    assert not fast.body.block.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_that_checks_the_class_of_its_batch_norm_is_left_alone():
    class Checking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = residual_network()[:4]

        def forward(self, pictures: Tensor) -> Tensor:
            assert isinstance(self.body.bn, nn.BatchNorm2d)
            return self.body(pictures)

    network = Checking().eval().requires_grad_(False)
    assert checked_copy(network, "body") is network


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.jit.trace(residual_network(), torch.rand(1, *SHAPE)),
        lambda: residual_network().bfloat16(),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 4)),
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()),
    ],
    ids=["scripted", "bfloat16", "linear", "small"],
)
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # traced networks are still in use
def test_the_network_itself_is_returned_where_nothing_can_be_gained(make: Callable[[], nn.Module]):
    network = make()
    last = [path for path, _ in network.named_modules()][-1]
    assert fast_copy(network.eval().requires_grad_(False), [LayerCall(last)], [SHAPE]) is network


def test_the_network_itself_is_returned_under_autocast():
    network = residual_network()
    with torch.autocast("cpu"):
        assert fast_copy(network, [LayerCall("fc")], [SHAPE]) is network


class Uncopyable:
    """Something that a module refers to, as a LightningModule does to its trainer."""

    def __deepcopy__(self, memo: object) -> "Uncopyable":
        raise AssertionError("copied")


def test_the_network_is_left_as_it_was_and_shares_all_that_is_not_changed():
    network = residual_network()
    network.trainer = Uncopyable()
    modules = [(path, module, dict(vars(module))) for path, module in network.named_modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]
    before = {name: values.clone() for name, values in network.state_dict().items()}
    fast = checked_copy(network, "fc")
    assert [(path, module, dict(vars(module))) for path, module in network.named_modules()] == modules
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()] == hooks
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    assert fast.trainer is network.trainer
    assert fast.fc.weight is network.fc.weight
    assert fast.block.bn1.weight is network.block.bn1.weight
    assert len(fast.fc._forward_hooks) == 0


def test_a_module_with_several_names_stays_one():
    network = residual_network()
    network.block.act = network.block.relu
    fast = checked_copy(network, "fc")
    assert fast.block.act is fast.block.relu
    assert fast.block.act is not network.block.relu


def test_pictures_are_those_of_the_network_itself():
    network = residual_network().double()
    plain = residual_network().double()
    plain.load_state_dict(network.state_dict())
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: None)
    maximizer = Maximizer(steps=12)
    with frozen(plain):
        assert fast_copy(plain, [LayerCall("block")], [SHAPE]) is plain
    features = maximizer.maximize(network, ["block:0-2", "conv:1", "bn:3"], SHAPE)
    expected = maximizer.maximize(plain, ["block:0-2", "conv:1", "bn:3"], SHAPE)
    for feature, other in zip(features, expected, strict=True):
        torch.testing.assert_close(feature.history, other.history, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(feature.image, other.image, rtol=0, atol=1 / 254)
        assert feature.score == pytest.approx(other.score, rel=1e-3)


def test_pictures_follow_a_network_that_trains():
    network, maximizer = residual_network(), Maximizer(steps=2)
    (before,) = maximizer.maximize(network, ["block:0"], SHAPE)
    with torch.no_grad():
        network.bn.weight.mul_(2)
        network.block.conv2.weight.mul_(-1)
    (after,) = maximizer.maximize(network, ["block:0"], SHAPE)
    (activation,) = Capture(network, [LayerCall("block")])(after.image[None]).values()
    assert after.score == pytest.approx(activation.values[0, 0].mean().item(), rel=1e-5)
    assert not torch.allclose(after.history, before.history, rtol=0.01)
