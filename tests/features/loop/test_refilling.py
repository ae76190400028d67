"""Pictures that stop early are replaced in the batch by the next, and each is what it is alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from fvlightning.features import (
    CosineWithWarmup,
    Feature,
    Maximizer,
    PixelImage,
    RandomAffine,
    TotalVariation,
    ZoomingCrop,
)

SHAPE = (1, 8, 8)
N_UNITS = 12


class Capped(nn.Module):
    """Units that see a brightness until it is at a cap of their own: pictures (B, C, H, W) -> (B, 12).

    Args:
        broken: A unit that gives no number from its cap on.
        room: Of how many pictures a later forward pass than the first has room for, and which one that is.
    """

    def __init__(self, broken: int | None = None, room: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.caps = torch.linspace(0.5, 0.62, N_UNITS)[torch.randperm(N_UNITS, generator=torch.manual_seed(3))]
        self.broken, self.room = broken, room
        self.calls: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.calls.append(len(pictures))
        if self.room is not None and len(self.calls) >= self.room[1] and len(pictures) > self.room[0]:
            torch.empty(2**50)
        tilted = (pictures * torch.linspace(0.8, 1.2, 8)).flatten(1).mean(1, keepdim=True)
        scores = torch.minimum(tilted, self.caps)
        if self.broken is not None:
            broken = torch.arange(N_UNITS) == self.broken
            scores = torch.where(broken & (tilted >= self.caps), torch.nan, scores)
        return scores


def make(network: nn.Module, maximizer: Maximizer, **options: Any) -> list[Feature]:
    return maximizer.maximize(nn.Sequential(network), ["0:*"], SHAPE, **options)


SETTINGS: dict[str, dict[str, Any]] = {
    "no views": {"transforms": []},
    "views": {"transforms": [RandomAffine()], "views": 2, "penalties": [TotalVariation(1e-3)]},
    "changing views": {"transforms": [ZoomingCrop()]},
    "cosine": {"transforms": [], "scheduler": partial(CosineWithWarmup, warmup=4), "normalize_gradients": True},
    "importance, snapshots": {"transforms": [], "importance": True, "snapshots": [2, 20, 40]},
    "repeats": {"transforms": [RandomAffine()], "repeats": 2},
}


def settings_of(name: str) -> dict[str, Any]:
    return {"image": PixelImage(), "patience": 3, "optimizer": partial(optim.Adam, lr=0.02)} | SETTINGS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_each_is_what_it_is_alone(name: str):
    # The number of steps is no multiple of the steps between two looks for pictures that have stopped.
    together = make(Capped(), Maximizer(44, batch_size=4, **settings_of(name)))
    alone = make(Capped(), Maximizer(44, batch_size=1, **settings_of(name)))
    assert len({feature.steps for feature in alone}) > 4, "they stop at different steps"
    for feature, other in zip(together, alone, strict=True):
        assert (feature.name, feature.repeat, feature.status) == (other.name, other.repeat, other.status)
        assert (feature.steps, feature.best_step) == (other.steps, other.best_step)
        torch.testing.assert_close(feature.parameters, other.parameters, atol=1e-4, rtol=0)
        torch.testing.assert_close(feature.history, other.history, atol=1e-4, rtol=1e-3)
        assert feature.score == pytest.approx(other.score, abs=1e-3)
        assert feature.settings == other.settings
        assert list(feature.snapshots) == list(other.snapshots) == list(settings_of(name).get("snapshots", []))
        for step, picture in feature.snapshots.items():
            assert (picture - other.snapshots[step]).abs().max() < 2 / 255
        if feature.importance is not None:
            torch.testing.assert_close(feature.importance, other.importance, atol=1e-4, rtol=1e-3)


def test_the_network_is_called_less_often_and_with_no_more_pictures():
    """Without refilling each batch is there until the last of its pictures is done."""
    settings = settings_of("no views")
    refilled, in_parts = Capped(), Capped()
    make(refilled, Maximizer(200, batch_size=4, **settings))
    for first in range(0, N_UNITS, 4):
        Maximizer(200, batch_size=4, **settings).maximize(nn.Sequential(in_parts), f"0:{first}-{first + 3}", SHAPE)
    assert len(refilled.calls) < 0.9 * len(in_parts.calls)
    assert max(refilled.calls) <= 4


@pytest.mark.parametrize("name", ["no views", "views"])
def test_one_that_fails_is_replaced_too(name: str):
    settings = settings_of(name)
    together = make(Capped(broken=5), Maximizer(60, batch_size=3, **settings))
    alone = make(Capped(broken=5), Maximizer(60, batch_size=1, **settings))
    assert [feature.name for feature in together if feature.status == "non-finite"] == ["0:5"]
    for feature, other in zip(together, alone, strict=True):
        assert (feature.status, feature.steps, feature.best_step) == (other.status, other.steps, other.best_step)
        torch.testing.assert_close(feature.parameters, other.parameters, atol=1e-4, rtol=0)


@pytest.mark.parametrize("after", [1, 25, 60])
def test_where_the_memory_does_not_suffice_in_the_middle_the_rest_is_made(after: int):
    made: list[int] = []
    settings = settings_of("no views")
    cramped = Capped(room=(2, after + 8))
    maximizer = Maximizer(60, batch_size=4, **settings)
    with pytest.warns(UserWarning, match="out of memory with 4 pictures at once: going on with 2"):
        placed = list(maximizer.stream(nn.Sequential(cramped), "0:*", SHAPE, on_step=made.append))
    assert sorted(place for place, _ in placed) == list(range(N_UNITS)), "each once"
    assert sum(made) == 60 * N_UNITS
    assert min(made) > 0
    alone = make(Capped(), Maximizer(60, batch_size=1, **settings))
    for place, feature in placed:
        assert feature.steps == alone[place].steps
        torch.testing.assert_close(feature.parameters, alone[place].parameters, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SETTINGS)
def test_progress_adds_up_to_pictures_times_steps(name: str):
    made: list[int] = []
    features = make(Capped(), Maximizer(37, batch_size=5, **settings_of(name)), on_step=made.append)
    assert sum(made) == 37 * len(features)
    assert min(made) > 0


def test_a_picture_is_handed_out_before_those_of_its_batch_that_go_on():
    network = Capped()
    maximizer = Maximizer(1000, batch_size=N_UNITS, **settings_of("no views"))
    calls = [len(network.calls) for _ in maximizer.stream(nn.Sequential(network), "0:*", SHAPE)]
    assert calls[0] < calls[-1] - 16


def same_step_settings() -> dict[str, Callable[[], Maximizer]]:
    settings = settings_of("no views")
    return {
        "no patience": lambda: Maximizer(20, batch_size=4, **settings | {"patience": None}),
        "open relus": lambda: Maximizer(20, batch_size=4, open_relu_steps=3, **settings),
    }


@pytest.mark.parametrize("name", same_step_settings())
def test_where_all_have_to_be_at_one_step_the_batches_follow_each_other(name: str):
    network, done = nn.Sequential(Capped()), []
    for place, _ in same_step_settings()[name]().stream(network, "0:*", SHAPE):
        done.append(place // 4)
    assert done == sorted(done)
