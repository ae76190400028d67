"""Cases of whole runs: time until a score is reached, training, and this project in processes of its own."""

import contextlib
import logging
import math
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import mean

import lightning.pytorch as L
import torch
from quality import read_maximizer
from torch import Tensor

from benchmarks.measure import Clock, Line, Report, Skipped, seconds_of, take_turns, wait
from benchmarks.peers import torch_lucent
from benchmarks.steps import OURS, Options
from benchmarks.training import RECIPES, by_hand, by_lightning
from benchmarks.work import Work, class_work
from fvlightning import ClassifierModule, FourierImage, Maximizer, MnistCNN, MNISTDataModule, VisualizationCallback

_LUCID = Path(__file__).parents[2] / "configs/maximizer_lucid.yaml"
_EVERY = 8  # how many steps lie between the pictures whose score is looked at


def time_to_score(options: Options) -> Report:
    """Ten ImageNet classes of tf_efficientnet_lite0: time until torch-lucent's final clean score is reached.

    With `configs/maximizer_lucid.yaml`, whose transforms change as little as lucent's. The default settings bound the
    contrast, and look for what survives large changes: their scores stay below, and other networks see more in them.
    """
    work = class_work(options.steps or 512, options.device)
    title = f"ten ImageNet classes, tf_efficientnet_lite0, 224 px: until torch-lucent's score after {work.steps} steps"
    # The costs of a first call are left out.
    Maximizer(steps=2).maximize(work.network, work.units, work.shape)
    ours, theirs = Line(f"{OURS}, {_LUCID.stem}"), Line("torch-lucent, batch")
    goals = {theirs.name: ">= 8"}
    for repeat in range(options.repeats):
        made: list[Tensor] = []
        try:
            torch_lucent(work.first(len(work.indices), 2))
            torch.manual_seed(repeat)
            theirs.values.append(seconds_of(partial(_collect, made, work), options.device, options.clock))
        except Skipped as reason:
            theirs.note = f"skipped: {reason}"
            break
        goal = float(work.scores(made[0]).mean())
        theirs.note = f"mean clean logit {goal:.1f} after {work.steps} steps"
        seconds, ours.note = _until(work, goal, repeat, options.clock)
        ours.values += [seconds] if seconds is not None else []
        print(f"  {repeat + 1}/{options.repeats} torch-lucent: {theirs.values[-1]:.1f}; {ours.note}", file=sys.stderr)
    return Report(title, "s", ours.name, [ours, theirs], goals)


def _collect(made: list[Tensor], work: Work) -> None:
    made.append(torch_lucent(work))


def _until(work: Work, goal: float, seed: int, clock: Clock) -> tuple[float | None, str]:
    """Return the seconds until this project's pictures reach a mean clean score, or None, and a note."""
    times: list[tuple[int, float]] = []
    made = 0

    def count(pictures: int) -> None:
        nonlocal made
        made += pictures
        wait(work.device.type)
        times.append((made, clock()))

    looked_at = range(_EVERY, work.steps + 1, _EVERY)
    maximizer = read_maximizer(_LUCID, {"steps": work.steps, "snapshots": list(looked_at), "seed": seed})
    started = clock()
    features = maximizer.maximize(work.network, work.units, work.shape, on_step=count)
    reached: dict[int, float] = {}
    for step in looked_at:
        pictures = [feature.snapshots[step] for feature in features]
        # Pictures of a coarser round are not done yet.
        if pictures[0].shape == work.shape:
            reached[step] = mean(work.scores(torch.stack(pictures).to(work.device)).tolist())
            if reached[step] >= goal:
                seconds = next(moment for count, moment in times if count >= step * len(features)) - started
                return seconds, f"mean clean logit {reached[step]:.1f} after {step} steps"
    return None, f"mean clean logit {max(reached.values(), default=math.nan):.1f} in {work.steps} steps: NOT REACHED"


def training(options: Options) -> Report:
    """Training MnistCNN with pictures of twenty channels after every epoch, against training alone."""
    data = _digits(options)
    epochs = 4
    lines = take_turns(
        {
            "without the callback": lambda: _fit(data, epochs, options, []),
            "with the callback": lambda: _fit(data, epochs, options, [_pictures()]),
        },
        options.repeats,
        warm_up=True,
    )
    title = f"MnistCNN, {epochs} epochs of {len(data.splits.train):,} digits: pictures of conv1 and conv2 each epoch"
    return Report(title, "s", "without the callback", lines)


def epoch(options: Options) -> Report:
    """An epoch of MnistCNN by Lightning, against a loop written by hand."""
    data = _digits(options)

    def lightning() -> float:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            return by_lightning(RECIPES["mnist"], data, _accelerator(options)).seconds

    lines = take_turns(
        {
            "by hand": lambda: by_hand(RECIPES["mnist"], data, torch.device(options.device)).seconds,
            "Lightning": lightning,
        },
        options.repeats,
        warm_up=True,
    )
    return Report(f"MnistCNN, one epoch of {len(data.splits.train):,} digits", "s", "by hand", lines)


def _accelerator(options: Options) -> str:
    return "gpu" if options.device == "cuda" else "cpu"


def _digits(options: Options) -> MNISTDataModule:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if options.data_dir is None:
        data = MNISTDataModule(source="sample")
    else:
        data = MNISTDataModule(options.data_dir, download=False)
    data.prepare_data()
    data.setup()
    return data


def _pictures() -> VisualizationCallback:
    """Return a callback with settings for digits."""
    image = FourierImage(decay=1.5, max_rms=0.33)
    maximizer = Maximizer(steps=128, pooling="rms", image=image)
    return VisualizationCallback(["conv1:*", "conv2:*"], maximizer)


def _fit(data: MNISTDataModule, epochs: int, options: Options, callbacks: list[L.Callback]) -> float:
    """Return the seconds of a training, from the trainer's start to its end."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=_accelerator(options),
            devices=1,
            max_epochs=epochs,
            default_root_dir=folder,
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        return seconds_of(
            lambda: trainer.fit(ClassifierModule(MnistCNN()), datamodule=data), options.device, options.clock
        )
