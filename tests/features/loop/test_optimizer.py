"""An optimiser that treats each picture by itself, and its schedule."""

import math
import sys
from functools import partial
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from fvlightning.errors import InputError
from fvlightning.features import CosineWithWarmup, Maximizer, PixelImage
from fvlightning.features.loop.optimizer import OptimizerCallable, PictureOptimizer

ELEMENTWISE = {
    "adam": partial(optim.Adam, lr=0.05),
    "fused adam": partial(optim.Adam, lr=0.05, fused=True),
    "amsgrad": partial(optim.Adam, lr=0.05, amsgrad=True),
    "adamw": partial(optim.AdamW, lr=0.1),
    "nadam": partial(optim.NAdam, lr=0.1),
    "sgd": partial(optim.SGD, lr=0.1),
    "momentum": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": partial(optim.RMSprop, lr=0.1),
    "adagrad": partial(optim.Adagrad, lr=0.1),
    "rprop": partial(optim.Rprop, lr=0.1),
    "asgd": partial(optim.ASGD, lr=0.1),
}
OTHERS = {"adafactor": partial(optim.Adafactor, lr=0.1)}
ALL = ELEMENTWISE | OTHERS


def gradients_of(step: int, count: int = 5) -> torch.Tensor:
    scales = torch.tensor([1.0, 10.0, 0.1, 0.0, 3.0])[:count]
    return torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(step)) * scales[:, None, None]


@pytest.mark.parametrize("name", ALL)
def test_pictures_move_as_they_do_alone(name: str):
    start = torch.randn(5, 2, 3)
    together = PictureOptimizer(start, ALL[name])
    alone = [torch.nn.Parameter(row.clone()) for row in start]
    optimizers = [ALL[name]([row]) for row in alone]
    for step in range(6):
        gradients = gradients_of(step)
        together.step(gradients)
        for row, gradient, optimizer in zip(alone, gradients, optimizers, strict=True):
            row.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(together.parameters.detach(), torch.stack([row.detach() for row in alone]))
    assert together.parameters.requires_grad
    assert not torch.equal(together.parameters.detach(), start)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("staying", [[0, 2, 4], [3], [1, 4]])
def test_pictures_that_stay_go_on_with_their_own_state(name: str, staying: list[int]):
    start = torch.randn(5, 2, 3)
    some, whole = PictureOptimizer(start, ALL[name]), PictureOptimizer(start, ALL[name])
    for step in range(7):
        if step == 3:
            some.keep(staying)
        gradients = gradients_of(step)
        whole.step(gradients)
        some.step(gradients if step < 3 else gradients[staying])
    assert some.parameters.shape == (len(staying), 2, 3)
    torch.testing.assert_close(some.parameters.detach(), whole.parameters.detach()[staying])


@pytest.mark.parametrize("name", ALL)
def test_pictures_leave_twice_until_one_is_left(name: str):
    start = torch.randn(5, 2, 3)
    some, whole = PictureOptimizer(start, ALL[name]), PictureOptimizer(start, ALL[name])
    places = [0, 1, 2, 3, 4]
    for step in range(8):
        if step in (2, 5):
            staying = [1, 2, 4] if step == 2 else [2]
            places = [places[place] for place in staying]
            some.keep(staying)
        gradients = gradients_of(step)
        whole.step(gradients)
        some.step(gradients[places])
    torch.testing.assert_close(some.parameters.detach(), whole.parameters.detach()[places])


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_that_is_not_a_number_harms_no_other_picture(name: str):
    start = torch.randn(5, 2, 3)
    harmed, whole = PictureOptimizer(start, ALL[name]), PictureOptimizer(start, ALL[name])
    for step in range(3):
        gradients = gradients_of(step)
        whole.step(gradients)
        gradients = gradients.clone()
        gradients[1] = torch.nan
        harmed.step(gradients)
    others = [0, 2, 3, 4]
    assert torch.equal(harmed.parameters.detach()[others], whole.parameters.detach()[others])


def test_the_initial_parameters_are_left_alone():
    start = torch.randn(2, 3)
    before = start.clone()
    PictureOptimizer(start, ELEMENTWISE["sgd"]).step(torch.ones(2, 3))
    assert torch.equal(start, before)


@pytest.mark.parametrize(
    "optimizer", [optim.LBFGS, optim.SparseAdam, optim.Muon], ids=lambda optimizer: optimizer.__name__
)
def test_optimizers_that_need_more_than_gradients_are_refused(optimizer: OptimizerCallable):
    with pytest.raises(InputError, match=r"use one such as torch\.optim\.Adam"):
        PictureOptimizer(torch.zeros(2, 1, 4, 4), optimizer)


def test_settings_that_the_optimizer_refuses_are_named():
    with pytest.raises(InputError, match="Invalid learning rate"):
        PictureOptimizer(torch.zeros(2, 3), partial(optim.Adam, lr=-1.0))


def test_the_order_of_gradients_in_memory_does_not_matter():
    start, gradients = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    strided = gradients.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    moved = []
    for ordered in (gradients, strided):
        pictures = PictureOptimizer(start, partial(optim.AdamW, lr=0.1, fused=True))
        pictures.step(ordered)
        moved.append(pictures.parameters.detach().clone())
    torch.testing.assert_close(moved[0], moved[1])


def test_on_the_cpu_no_step_asks_for_gpus():
    pictures = PictureOptimizer(torch.zeros(2, 3), partial(torch.optim.AdamW, lr=0.1))
    called: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        pictures.step(torch.ones(2, 3))
    finally:
        sys.setprofile(None)
    assert "current_accelerator" not in called
    torch.testing.assert_close(pictures.parameters.detach(), torch.full((2, 3), -0.1))


SCHEDULES: dict[str, Any] = {
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=8),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.8),
    "one cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=9),
    "warm-up": partial(CosineWithWarmup, warmup=2),
}


def rates(scheduler: Any, steps: int) -> list[float]:
    """Return the learning rate of each step: how far gradient descent goes against a gradient of 1."""
    pictures = PictureOptimizer(torch.zeros(2, 3), partial(optim.SGD, lr=0.5), scheduler=scheduler, steps=steps)
    places = [torch.zeros(3)]
    for _ in range(steps):
        pictures.step(torch.ones(2, 3))
        places.append(pictures.parameters[1].detach().clone())
    return [(before - after)[2].item() for before, after in pairwise(places)]


def test_schedules_go_with_the_steps_of_the_pictures():
    exponential = [0.5 * 0.8**step for step in range(6)]
    assert rates(SCHEDULES["exponential"], 6) == pytest.approx(exponential, abs=1e-6)
    assert rates(None, 3) == pytest.approx([0.5] * 3, abs=1e-6)


def test_the_number_of_steps_is_passed_on_to_the_schedule():
    cosine = [0.25 * (1 + math.cos(math.pi * step / 7)) for step in range(1, 7)]
    expected = [0.125, 0.25, 0.375, 0.5, *cosine]
    assert rates(partial(CosineWithWarmup, warmup=4), 10) == pytest.approx(expected, abs=1e-6)
    assert rates(CosineWithWarmup, 8) == rates(SCHEDULES["warm-up"], 8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_pictures_with_a_schedule_stand_alone(wide_cnn: nn.Module, name: str):
    maximizer = Maximizer(8, scheduler=SCHEDULES[name], image=PixelImage())
    together = maximizer.maximize(wide_cnn, "fc:*", (1, 12, 12))
    (alone,) = maximizer.maximize(wide_cnn, "fc:3", (1, 12, 12))
    torch.testing.assert_close(alone.parameters, together[3].parameters, atol=1e-4, rtol=0)
    constant_rate = partial(lr_scheduler.ConstantLR, factor=1.0)
    (constant,) = maximizer.replace(scheduler=constant_rate).maximize(wide_cnn, "fc:3", (1, 12, 12))
    assert not torch.allclose(constant.parameters, alone.parameters, atol=1e-3)


def test_normalised_gradients_are_divided_by_the_largest_rms_so_far_of_each_picture():
    pictures = PictureOptimizer(torch.zeros(2, 4), partial(optim.SGD, lr=1.0), normalize=True)
    moved = []
    for scale in (2.0, 8.0, 4.0):
        pictures.step(torch.tensor([[scale] * 4, [0.0, 0.0, 0.0, 1.0]]))
        moved.append(pictures.parameters.detach().clone())
    expected = torch.tensor([[-1.0] * 4, [0.0, 0.0, 0.0, -2.0]])
    torch.testing.assert_close(moved[0], expected)
    torch.testing.assert_close(moved[1] - moved[0], expected)
    torch.testing.assert_close(moved[2] - moved[1], torch.tensor([[-0.5] * 4, [0.0, 0.0, 0.0, -2.0]]))


def test_pictures_on_hold_stay_as_they_are():
    pictures = PictureOptimizer(torch.zeros(3, 2), partial(optim.SGD, lr=1.0))
    pictures.step(torch.ones(3, 2), hold=torch.tensor([False, True, False]))
    assert pictures.parameters.tolist() == [[-1, -1], [0, 0], [-1, -1]]


def test_pictures_that_leave_do_not_disturb_the_schedule():
    some, whole = (
        PictureOptimizer(torch.zeros(3, 2), partial(optim.Adam, lr=0.1), scheduler=SCHEDULES["warm-up"], steps=8)
        for _ in range(2)
    )
    for step in range(8):
        if step == 4:
            some.keep([1])
        some.step(torch.ones(len(some.parameters), 2))
        whole.step(torch.ones(3, 2))
    torch.testing.assert_close(some.parameters[0], whole.parameters[1])


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            lr_scheduler.ReduceLROnPlateau,
            r"^Maximizer\(scheduler=ReduceLROnPlateau\): follows one score, and each picture has its own; use a "
            r"schedule of the steps, such as CosineWithWarmup$",
        ),
        (lr_scheduler.CosineAnnealingLR, r"^Maximizer\(scheduler=\.\.\.\): cannot be used for pictures \(.*T_max"),
        (partial(CosineWithWarmup, warmup=-1), r"^CosineWithWarmup\(warmup=-1\)"),
        (partial(CosineWithWarmup, steps=0), r"^CosineWithWarmup\(steps=0\)"),
    ],
    ids=["metric", "missing setting", "warmup", "steps"],
)
def test_schedules_that_do_not_suit_pictures_are_refused(cnn: nn.Module, scheduler: Any, message: str):
    with pytest.raises(InputError, match=message):
        Maximizer(2, scheduler=scheduler).maximize(cnn, "fc:0", (1, 8, 8))
