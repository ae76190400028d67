"""The worth of each trick of the fast copy: the same pictures with all of them, and without each."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch

from benchmarks.limits import fvlightning
from benchmarks.measure import Report, seconds_of, take_turns
from benchmarks.steps import Options
from benchmarks.work import Work, class_work, mnist_work, resnet_work

_COPYING = "fvlightning.features.fast.copying"
_NONE_SUITS = SimpleNamespace(suits=lambda module: False)
_ALL = "all tricks"
# Each context switches one trick off.
_TRICKS: Mapping[str, Callable[[], AbstractContextManager[object]]] = {
    _ALL: nullcontext,
    "without batch norms folded": partial(patch, f"{_COPYING}.is_foldable_norm", lambda module: False),
    "without channels last": partial(patch, f"{_COPYING}._FEWEST_CHANNELS", 2**30),
    "without gradients by columns": partial(patch, f"{_COPYING}.ColumnsConv2d", _NONE_SUITS),
    "without gradients by phases": partial(patch, f"{_COPYING}.StridedConv2d", _NONE_SUITS),
    "without channel means": partial(patch, f"{_COPYING}.MeanConv2d.suits", lambda module: False),
    "no copy at all": partial(patch, "fvlightning.features.maximizer.fast_copy", lambda network, *_, **__: network),
}


def layer1(options: Options) -> Report:
    """What each trick is worth: resnet18, layer1."""
    return _report(resnet_work("resnet18", "layer1", 8, options.steps or 32, options.device), options)


def layer3(options: Options) -> Report:
    """What each trick is worth: resnet18, layer3."""
    return _report(resnet_work("resnet18", "layer3", 8, options.steps or 32, options.device), options)


def mnist(options: Options) -> Report:
    """What each trick is worth: MnistCNN, conv2."""
    return _report(mnist_work(options.steps or 128, options.device), options)


def classes(options: Options) -> Report:
    """What each trick is worth: classes of tf_efficientnet_lite0."""
    return _report(class_work(options.steps or 16, options.device).first(8, options.steps or 16), options)


def _report(work: Work, options: Options) -> Report:
    def measure(without: Callable[[], AbstractContextManager[object]]) -> float:
        with without():
            return 1e3 * seconds_of(lambda: fvlightning(work), options.device, options.clock) / work.picture_steps

    lines = take_turns({name: partial(measure, off) for name, off in _TRICKS.items()}, options.repeats, warm_up=True)
    name = type(work.network.net).__name__
    title = f"{name} {work.layer}, {work.shape[-1]} px, {len(work.indices)} units, {torch.get_num_threads()} threads"
    return Report(title, "ms a step and picture", _ALL, lines)
