"""The worth of each trick of the fast copy: the same pictures with all of them, and without each.

    python tools/benchmark.py --threads 1 --clock process
        --cases tricks_layer1 tricks_layer3 tricks_mnist tricks_classes

How many times as long a step takes without a trick, on two CPU cores with torch 2.14.1; medians of three to five runs,
which differ by three hundredths, those of EfficientNet-Lite0 by a tenth. A dash: the network has no use for it.

| without | resnet18 layer1 | resnet18 layer3 | MnistCNN conv2 | EfficientNet-Lite0 classes |
| --- | --- | --- | --- | --- |
| batch norms folded | 1.04 | 1.06 | - | 1.08 |
| channels last | 1.18 | 1.18 | - | 1.05 |
| the gradient to the picture by columns | - | - | 1.21 | - |
| the gradient to the picture by phases | 1.06 | 1.03 | - | - |
| padding in the kernel | - | - | - | 1.09 |
| lean ReLU6 | - | - | - | 1.14 |
| channel means without the convolution | - | - | 1.22 | - |
| any copy | 1.34 | 1.21 | 1.30 | 1.37 |

With all activations in place, efficientnet_b0 takes 1.10 times as long forward and back, by 15 pairs of steps.

A trick that saves less than 3 % of a step in every case is removed. These did not pay on a CPU: `torch.compile`;
channels last in networks of fewer than 16 channels; oneDNN switched off for small networks; gradients of convolutions
with stride 1 by flipped kernels, of strided depthwise ones by phases; padding in the kernel of those of all channels;
Winograd's convolutions, or convolutions fused with their ReLUs; ReLUs behind max poolings; clean pictures judged less
often; more pictures at once (64 at 224 pixels take 3 % less time each than 8, and eight times the memory).
"""

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
    "without padding in the kernel": partial(patch, f"{_COPYING}.SameConv2d", _NONE_SUITS),
    "without lean ReLU6": partial(patch, f"{_COPYING}.LeanReLU6", _NONE_SUITS),
    "with all activations in place": partial(patch, f"{_COPYING}.copies_its_input", lambda module: False),
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
