"""Lightning's trainer, and what this project adds to its methods."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

from fvlightning.callbacks.feature_writer import FeatureWriter, versions
from fvlightning.callbacks.progress import step_progress
from fvlightning.callbacks.shape import picture_shape
from fvlightning.errors import InputError
from fvlightning.features import Feature, Maximizer, Unit, resolve_units
from fvlightning.features.survey import survey_layers
from fvlightning.output import check_writable


class Trainer(pl.Trainer):
    """Lightning's trainer with the subcommands of this project."""

    def visualize(
        self,
        model: pl.LightningModule,
        units: Sequence[str] = (),
        maximizer: Maximizer | None = None,
        output_dir: str = "out",
        batch_size: int = 16,
        image_shape: tuple[int, int, int] | None = None,
        overwrite: bool = False,
        list_layers: bool = False,
        ckpt_path: str | None = None,
        weights_only: bool = True,
        datamodule: pl.LightningDataModule | None = None,
    ) -> None:
        """Make pictures of what units look for, and write them to a folder.

        Each picture is written when it is done, ``OUTPUT_DIR/LAYER/INDEX.png``; at the end there are a contact sheet
        a layer, ``OUTPUT_DIR/LAYER.png``, and ``OUTPUT_DIR/features.json``. A second run makes what is missing, or was
        made with other settings or another model.

        Args:
            model: The model whose units are looked at.
            units: What is maximised, for example '["conv2:*", "fc2:7"]'.
            maximizer: How the pictures are made.
            output_dir: Folder of the results.
            batch_size: How many units are optimised at once on each device.
            image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
            overwrite: Whether pictures that are there already are made again.
            list_layers: Print the layers with their output shapes and numbers of units, and make no pictures.
            ckpt_path: Checkpoint whose weights are used. Default: the weights that the model is made with.
            weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
            datamodule: Data, whose image shape is taken where the model does not know it.

        Raises:
            InputError: A unit or the checkpoint cannot be used, the folder cannot be written, or units gave values that
                are not finite; the pictures of the others are there then.
        """
        if ckpt_path is not None:
            _load_weights(model, ckpt_path)
        shape = picture_shape(model, datamodule, image_shape)
        if list_layers:
            return _print_layers(model, shape)
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be at least 1")
        maximizer = maximizer if maximizer is not None else Maximizer()
        maximizer.batch_size = batch_size
        resolved = resolve_units(model, units, shape)
        folder = Path(output_dir)
        if self.is_global_zero:
            check_writable(folder)
        common = {
            "model": type(getattr(model, "net", model)).__name__,
            "weights": _fingerprint(model),
            "image_shape": list(shape),
            "versions": versions(),
        }
        writer = FeatureWriter(folder, resolved, maximizer, common)
        missing = resolved if overwrite else writer.missing()
        if len(missing) < len(resolved):
            rank_zero_info(f"{len(resolved) - len(missing)} of {len(resolved)} units are in {folder} already, and kept")
        if missing:
            callbacks: list[pl.Callback] = self.callbacks  # type: ignore[attr-defined] # which Lightning sets
            callbacks.append(writer)
            try:
                with warnings.catch_warnings():
                    # The writer goes by the features, not by their places in the loader.
                    warnings.filterwarnings("ignore", "Couldn't infer the batch indices")
                    self.predict(_Visualizer(model, missing, maximizer, shape), return_predictions=False)
            finally:
                callbacks.remove(writer)
        if self.is_global_zero:
            _report(writer.finish(self), folder)


class _Units(torch.utils.data.Dataset[list[str]]):
    """Units by their text forms, which Lightning moves to the device as they are; indexed by lists of places."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, places: list[int]) -> list[str]:
        return [str(self._units[place]) for place in places]


class _UnitSampler(DistributedSampler[list[int]]):
    """One rank's part of the units, in batches of one layer, since a forward pass ends at the last layer of its batch.

    A `DistributedSampler`, so that Lightning does not put one of its own in its place, which would repeat units.
    """

    def __init__(self, units: Sequence[Unit], batch_size: int, num_replicas: int, rank: int) -> None:
        super().__init__(_Units(units), num_replicas, rank, shuffle=False)
        by_layer: dict[Any, list[int]] = {}
        for place, unit in enumerate(units):
            by_layer.setdefault(unit.layer_call, []).append(place)
        self._batches: list[list[int]] = []
        for places in by_layer.values():
            mine = places[rank::num_replicas]
            self._batches += [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches


class _Visualizer(pl.LightningModule):
    """Makes the pictures of a batch of units as the prediction for them."""

    def __init__(
        self, model: pl.LightningModule, units: Sequence[Unit], maximizer: Maximizer, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.model = model
        self.units = units
        self.maximizer = maximizer
        self.shape = shape
        # With more ranks than units some have nothing to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._stack = ExitStack()

    @override
    def predict_dataloader(self) -> DataLoader[list[str]]:
        # Asked for when the ranks are there; before that there is one.
        world_size, rank = self.trainer.world_size, self.trainer.global_rank
        sampler = _UnitSampler(self.units, self.maximizer.batch_size, world_size, rank)
        return DataLoader(_Units(self.units), sampler=sampler, batch_size=None)

    @override
    def on_predict_start(self) -> None:
        loader: DataLoader[list[str]] = self.trainer.predict_dataloaders  # type: ignore[assignment]
        sampler: _UnitSampler = loader.sampler  # type: ignore[assignment]
        total = sum(map(len, sampler)) * self.maximizer.repeats * self.maximizer.steps
        self._advance = self._stack.enter_context(step_progress(self.trainer, "Steps", total))

    @override
    def on_predict_end(self) -> None:
        self._stack.close()
        self.trainer.strategy.barrier("pictures")  # rank zero reads all files then

    @override
    def predict_step(self, batch: list[str], batch_idx: int) -> list[Feature]:
        return self.maximizer.maximize(self.model, batch, self.shape, on_step=self._advance)


def _load_weights(model: pl.LightningModule, ckpt_path: str) -> None:
    from fvlightning.checkpoints import read_checkpoint

    model.load_state_dict(read_checkpoint(ckpt_path)["state_dict"])


def _fingerprint(model: torch.nn.Module) -> str:
    """Return a hash of the weights, by which pictures of one state of a network are told from those of another."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _print_layers(model: pl.LightningModule, shape: tuple[int, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("layer", "kind", "output", "units", title=f"{type(getattr(model, 'net', model)).__name__}, {shape}")
    for layer in survey_layers(model, shape):
        table.add_row(str(layer.layer), layer.kind, " x ".join(map(str, layer.shape)), str(layer.n_units))
    Console().print(table)


def _report(records: Sequence[dict[str, Any]], folder: Path) -> None:
    failed = [record["unit"] for record in records if record["status"] == "non-finite"]
    dead = [record["unit"] for record in records if record["status"] == "dead"]
    if dead:
        rank_zero_info(f"{len(dead)} units do not answer to any step: {', '.join(dead[:8])}")
    rank_zero_info(f"{len(records)} pictures are in {folder}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(records)} pictures gave values that are not finite: {', '.join(failed[:8])}; the "
            "others are there"
        )
