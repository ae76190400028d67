"""The best of each picture, its history and when it stops, while a batch is optimised."""

import math

import torch
from torch import Tensor

from fvlightning.features.loop._tracking import Tracker


def rows(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def record(tracker: Tracker, step: int, *totals: float, gradient: float = 1.0) -> None:
    tracker.record(step, torch.tensor(totals), torch.tensor(totals), torch.full((len(totals), 1), gradient))


def test_the_best_of_each_picture_is_kept_by_copy():
    tracker = Tracker(rows(0.0, 0.0), steps=4, patience=None, min_delta=0)
    parameters = rows(0.0, 0.0)
    for step, totals in enumerate([(1.0, 5.0), (3.0, 4.0), (2.0, 6.0)]):
        parameters += 1
        tracker.offer(parameters, torch.tensor(totals))
        record(tracker, step, *totals)
    parameters.zero_()
    assert tracker.best_parameters.flatten().tolist() == [2, 3]
    assert tracker.best_step.tolist() == [1, 2]


def test_a_non_finite_total_is_never_the_best():
    tracker = Tracker(rows(7.0, 7.0, 7.0), steps=4, patience=None, min_delta=0)
    record(tracker, 0, -6.0, -6.0, -6.0)
    tracker.offer(rows(1.0, 1.0, 1.0), torch.tensor([-5.0, -5.0, -5.0]))
    record(tracker, 1, -5.0, -5.0, -5.0)
    tracker.offer(rows(2.0, 2.0, 2.0), torch.tensor([math.nan, math.inf, -math.inf]))
    assert tracker.best_step.tolist() == [1, 1, 1]
    assert tracker.best_parameters.flatten().tolist() == [1, 1, 1]


def test_the_later_of_totals_that_are_equal_up_to_rounding_is_kept():
    tracker = Tracker(rows(0.0, 0.0), steps=4, patience=None, min_delta=0)
    record(tracker, 0, 7.0, 7.0)
    tracker.offer(rows(1.0, 1.0), torch.tensor([8.0, 8.0]))
    record(tracker, 1, 8.0, 8.0)
    tracker.offer(rows(2.0, 2.0), torch.tensor([8.0 - 1e-6, 8.0 - 1e-4]))
    assert tracker.best_parameters.flatten().tolist() == [2, 1]
    assert tracker.best_step.tolist() == [2, 1]


def test_the_initial_picture_is_the_best_only_if_it_is_presentable():
    presentable = torch.tensor([True, False])
    tracker = Tracker(rows(0.0, 0.0), steps=4, patience=None, min_delta=0, presentable=presentable)
    tracker.offer(rows(1.0, 1.0), torch.tensor([8.0, 8.0]))
    record(tracker, 0, 8.0, 8.0)
    tracker.offer(rows(2.0, 2.0), torch.tensor([5.0, 5.0]))
    assert tracker.best_parameters.flatten().tolist() == [1, 2]
    assert tracker.best_step.tolist() == [0, 1]


def test_a_picture_stops_after_so_many_steps_without_an_improvement():
    tracker = Tracker(rows(0.0, 0.0), steps=9, patience=3, min_delta=0.5)
    for step, totals in enumerate([(0.0, 0.0), (1.0, 1.0), (1.4, 2.0), (1.5, 3.0), (1.2, 4.0)]):
        assert not tracker.stopped.any()
        record(tracker, step, *totals)
    assert tracker.stopped.tolist() == [True, False], "from 1.0 to 1.5 is not more than 0.5"
    assert tracker.steps_made.tolist() == [5, 5]
    assert tracker.running() == [1]
    tracker.keep([1])
    assert tracker.active.tolist() == [1]
    record(tracker, 5, 5.0)
    assert tracker.steps_made.tolist() == [5, 6]
    assert tracker.history[:6, 1].tolist() == [0, 1, 2, 3, 4, 5]
    assert tracker.running() == [0], "the only one left is at place 0 now"


def test_small_improvements_add_up():
    tracker = Tracker(rows(0.0), steps=40, patience=3, min_delta=0.25)
    for step in range(30):
        record(tracker, step, step * 0.1)
    assert not tracker.stopped.any()


def test_scores_that_fall_during_the_warmup_do_not_count_for_patience():
    tracker = Tracker(rows(0.0), steps=9, patience=2, min_delta=0.1)
    for step, total in enumerate([9.0, 7.0, 5.0]):
        tracker.record(step, torch.tensor([total]), torch.tensor([total]), torch.ones(1, 1), warming_up=True)
    for step, (total, stops) in enumerate([(5.05, False), (5.2, False), (5.1, False), (5.0, True)], start=3):
        record(tracker, step, total)
        assert tracker.stopped.tolist() == [stops]


def test_a_picture_that_has_stopped_but_is_not_dropped_yet_counts_no_more_steps():
    tracker = Tracker(rows(0.0, 0.0), steps=9, patience=1, min_delta=0)
    for step, totals in enumerate([(1.0, 1.0), (1.0, 2.0), (9.0, 3.0)]):
        record(tracker, step, *totals)
    assert tracker.steps_made.tolist() == [2, 3]
    assert tracker.stopped.tolist() == [True, False]


def test_a_failure_stops_its_picture_and_no_other():
    tracker = Tracker(rows(0.0, 0.0, 0.0, 0.0), steps=3, patience=None, min_delta=0)
    tracker.record(0, torch.ones(4), torch.tensor([1, math.nan, math.inf, 1]), rows(1.0, 1.0, 1.0, math.nan))
    assert tracker.failed.tolist() == tracker.stopped.tolist() == [False, True, True, True]
    assert tracker.running() == [0]


def test_pictures_without_a_gradient_have_not_moved():
    tracker = Tracker(rows(0.0, 0.0), steps=3, patience=None, min_delta=0)
    for step in range(2):
        tracker.record(step, torch.zeros(2), torch.zeros(2), rows(0.0, 0.1 if step else 0.0))
    assert tracker.moved.tolist() == [False, True]
