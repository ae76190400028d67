"""Networks that change themselves in evaluation mode are left as they were, and pictures do not see the changes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import Maximizer, score
from fvlightning.features.capture import frozen, remembers_passes
from fvlightning.features.units import LayerCall

SHAPE = (1, 8, 8)
UNITS = ["net.fc:*"]


class Changing(nn.Module):
    """Changes itself in each forward pass, in all the ways that modules hold something.

    Args:
        net: Gives the output.
        fed_back: Whether the output depends on earlier passes. Otherwise the changes are notes alone.
    """

    def __init__(self, net: nn.Module, fed_back: bool = True) -> None:
        super().__init__()
        self.net, self.fed_back = net, fed_back
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))
        self.register_buffer("count", torch.tensor(0))
        self.plain = torch.zeros(1)
        self.calls = 0
        self.history: list[float] = []
        self.bank = {"last": torch.zeros(1)}

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * pictures.mean())
            self.spread = 0.9 * self.spread + 0.1 * pictures.std()
            self.count += 1
            self.plain += 1
            self.bank["last"].copy_(pictures.mean())
            self.bank[f"pass {self.calls}"] = pictures.mean()
            self.net.fc.weight.data.clamp_(-0.05, 0.05)
            self.net.conv.weight.data = torch.renorm(self.net.conv.weight.data, 2, 0, 0.5)
        self.calls += 1
        self.history.append(self.calls)
        self.last = pictures
        return self.net(pictures - self.mean) / self.spread if self.fed_back else self.net(pictures)


def held_by(network: Changing) -> dict[str, Any]:
    names = ("plain", "calls", "history", "bank", "training")
    others = {name: getattr(network, name) for name in names} | {"last": hasattr(network, "last")}
    return copy.deepcopy({**network.state_dict(), **others, "names": sorted(vars(network))})


def assert_held(network: Changing, before: dict[str, Any]) -> None:
    after = held_by(network)
    for name, value in before.items():
        assert torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name], name


@pytest.fixture(params=[True, False], ids=["fed back", "notes"])
def changing(cnn: nn.Module, request: pytest.FixtureRequest) -> Changing:
    return Changing(cnn, request.param).train()


@pytest.mark.parametrize(
    "work",
    [
        lambda network: Maximizer(3).maximize(network, UNITS, SHAPE),
        lambda network: next(Maximizer(3).stream(network, UNITS, SHAPE)),
        lambda network: score(network, ["net.fc:1"], torch.rand(2, *SHAPE), gradients=True),
    ],
    ids=["pictures", "one of a stream", "scores"],
)
def test_all_that_a_network_holds_is_as_before(changing: Changing, work: Callable[[nn.Module], object]):
    before = held_by(changing)
    work(changing)
    assert_held(changing, before)


def test_it_is_as_before_after_an_exception(changing: Changing):
    before = held_by(changing)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Maximizer(3).maximize(changing, UNITS, SHAPE, on_step=interrupt)
    assert_held(changing, before)


def test_hooks_that_a_network_registers_are_gone(cnn: nn.Module):
    class Hooking(nn.Sequential):
        def forward(self, pictures: Tensor) -> Tensor:
            self[0].register_forward_hook(lambda *_: None)
            return super().forward(pictures)

    network = Hooking(cnn)
    Maximizer(2).maximize(network, ["0.fc:0"], SHAPE)
    assert not cnn._forward_hooks


def test_each_picture_is_that_of_the_network_as_it_was_given(changing: Changing):
    """Neither earlier steps nor earlier pictures have changed it."""
    if changing.fed_back:
        with pytest.warns(UserWarning, match="depends on the pictures before, and pictures that share a batch may"):
            Maximizer(1, batch_size=2).maximize(changing, UNITS, SHAPE)
    alone = [Maximizer(20).maximize(changing, [f"net.fc:{index}"], SHAPE)[0] for index in range(5)]
    in_turns = Maximizer(20, batch_size=None if changing.fed_back else 1).maximize(changing, UNITS, SHAPE)
    for one, other in zip(alone, in_turns, strict=True):
        assert torch.equal(one.image, other.image)
        assert one.score == other.score
        assert one.score == score(changing, [one.unit], one.image[None]).item()


def test_training_ends_as_without_pictures_if_a_running_mean_is_fed_back(cnn: nn.Module):
    def train(makes_pictures: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = Changing(copy.deepcopy(cnn))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            network(torch.rand(8, *SHAPE)).square().mean().backward()
            optimizer.step()
            if makes_pictures:
                Maximizer(2).maximize(network, UNITS, SHAPE)
        return network.state_dict()

    plain, visualized = train(makes_pictures=False), train(makes_pictures=True)
    assert all(torch.equal(plain[name], visualized[name]) for name in plain)


def test_a_graph_of_the_caller_stays_valid():
    """Putting back counts no version of a buffer that the graph has saved."""
    norm = nn.BatchNorm2d(1).eval()
    loss = norm(torch.rand(2, *SHAPE, requires_grad=True)).sum()
    with frozen(norm):
        pass
    loss.backward()
    assert norm.weight.grad is not None


@pytest.mark.parametrize(("name", "expected"), [("mean", True), ("count", False)])
def test_only_what_is_fed_back_is_remembered(cnn: nn.Module, name: str, expected: bool):
    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = cnn
            self.mean, self.count = torch.zeros(1), 0

        def forward(self, pictures: Tensor) -> Tensor:
            setattr(self, name, getattr(self, name) + pictures.mean())
            return self.net(pictures) + self.mean

    network = Noting()
    with frozen(network):
        assert remembers_passes(network, [LayerCall("net.fc")], SHAPE) is False, "the layer comes before the sum"
        network = nn.Sequential(network)
        assert remembers_passes(network, [LayerCall("0")], SHAPE) is expected


class Initialised(nn.Module):
    """Takes its offset from the first batch, as ActNorm does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.offset: Tensor | None = None

    def forward(self, pictures: Tensor) -> Tensor:
        if self.offset is None:
            self.offset = pictures.mean().detach()
        return self.net(pictures - self.offset)


def test_a_network_that_its_first_batch_initialises_keeps_its_score(cnn: nn.Module):
    network = Initialised(cnn)
    (feature,) = Maximizer(5).maximize(network, ["net.fc:2"], SHAPE)
    assert network.offset is None
    assert feature.score == score(network, ["net.fc:2"], feature.image[None]).item()


class Unwritable(dict):
    """A dictionary that refuses changes, as the configurations of some libraries do."""

    def update(self, *_: object) -> None:
        raise TypeError("frozen")


def test_containers_that_refuse_changes_are_left_alone(cnn: nn.Module):
    cnn.config = Unwritable(width=4)
    with frozen(cnn.train()):
        pass
    assert cnn.training
    assert cnn.config == {"width": 4}


@pytest.mark.parametrize("tensor", [torch.zeros(1, 4, 1, 1).expand(3, 4, 1, 1), torch.eye(3).to_sparse()])
def test_buffers_of_any_layout_are_left_as_they_are(cnn: nn.Module, tensor: Tensor):
    cnn.register_buffer("other", tensor)
    with frozen(cnn):
        pass
    assert cnn.other is tensor
