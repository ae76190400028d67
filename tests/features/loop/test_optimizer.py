"""An optimiser that treats each picture by itself."""

import sys
from functools import partial
from types import FrameType

import pytest
import torch
from torch import optim

from fvlightning.errors import InputError
from fvlightning.features.loop.optimizer import OptimizedRows, OptimizerCallable

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
def test_rows_move_as_they_do_alone(name: str):
    start = torch.randn(5, 2, 3)
    together = OptimizedRows(start, ALL[name])
    alone = [torch.nn.Parameter(row.clone()) for row in start]
    optimizers = [ALL[name]([row]) for row in alone]
    for step in range(6):
        gradients = gradients_of(step)
        together.step(gradients)
        for row, gradient, optimizer in zip(alone, gradients, optimizers, strict=True):
            row.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(together.batch.detach(), torch.stack([row.detach() for row in alone]))
    assert together.batch.requires_grad
    assert not torch.equal(together.batch.detach(), start)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kept", [[0, 2, 4], [3], [1, 4]])
def test_rows_that_are_kept_go_on_with_their_own_state(name: str, kept: list[int]):
    start = torch.randn(5, 2, 3)
    some, all_rows = OptimizedRows(start, ALL[name]), OptimizedRows(start, ALL[name])
    for step in range(7):
        if step == 3:
            some.keep(kept)
        gradients = gradients_of(step)
        all_rows.step(gradients)
        some.step(gradients if step < 3 else gradients[kept])
    assert some.batch.shape == (len(kept), 2, 3)
    torch.testing.assert_close(some.batch.detach(), all_rows.batch.detach()[kept])


@pytest.mark.parametrize("name", ALL)
def test_keeping_twice_and_one_row_at_last(name: str):
    start = torch.randn(5, 2, 3)
    some, all_rows = OptimizedRows(start, ALL[name]), OptimizedRows(start, ALL[name])
    places = [0, 1, 2, 3, 4]
    for step in range(8):
        if step in (2, 5):
            stays = [1, 2, 4] if step == 2 else [2]
            places = [places[stay] for stay in stays]
            some.keep(stays)
        gradients = gradients_of(step)
        all_rows.step(gradients)
        some.step(gradients[places])
    torch.testing.assert_close(some.batch.detach(), all_rows.batch.detach()[places])


@pytest.mark.parametrize("name", ALL)
def test_a_row_that_is_not_a_number_harms_no_other(name: str):
    start = torch.randn(5, 2, 3)
    harmed, expected = OptimizedRows(start, ALL[name]), OptimizedRows(start, ALL[name])
    for step in range(3):
        gradients = gradients_of(step)
        expected.step(gradients)
        gradients = gradients.clone()
        gradients[1] = torch.nan
        harmed.step(gradients)
    others = [0, 2, 3, 4]
    assert torch.equal(harmed.batch.detach()[others], expected.batch.detach()[others])


def test_the_start_is_left_alone():
    start = torch.randn(2, 3)
    before = start.clone()
    OptimizedRows(start, ELEMENTWISE["sgd"]).step(torch.ones(2, 3))
    assert torch.equal(start, before)


@pytest.mark.parametrize(
    "optimizer", [optim.LBFGS, optim.SparseAdam, optim.Muon], ids=lambda optimizer: optimizer.__name__
)
def test_optimisers_that_cannot_do_it_are_refused(optimizer: OptimizerCallable):
    with pytest.raises(InputError, match=r"use one such as torch\.optim\.Adam"):
        OptimizedRows(torch.zeros(2, 1, 4, 4), optimizer)


def test_settings_that_the_optimiser_refuses_are_told():
    with pytest.raises(InputError, match="Invalid learning rate"):
        OptimizedRows(torch.zeros(2, 3), partial(optim.Adam, lr=-1.0))


def test_gradients_may_lie_in_memory_otherwise_than_the_batch():
    start, gradients = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    strided = gradients.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    moved = []
    for given in (gradients, strided):
        rows = OptimizedRows(start, partial(optim.AdamW, lr=0.1, fused=True))
        rows.step(given)
        moved.append(rows.batch.detach().clone())
    torch.testing.assert_close(moved[0], moved[1])


def test_on_the_cpu_no_step_looks_for_gpus():
    rows = OptimizedRows(torch.zeros(2, 3), partial(torch.optim.AdamW, lr=0.1))
    called: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        rows.step(torch.ones(2, 3))
    finally:
        sys.setprofile(None)
    assert "current_accelerator" not in called
    torch.testing.assert_close(rows.batch.detach(), torch.full((2, 3), -0.1))
