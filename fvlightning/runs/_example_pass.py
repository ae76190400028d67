"""One pass of images through a model, split over ranks, whose results are kept in files until all are done."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from typing_extensions import override

from fvlightning.analysis import Page, RunningExamples, UnitScorer, illustrate
from fvlightning.data import PictureSelection, report_unreadable
from fvlightning.errors import InputError
from fvlightning.features import Objective, Unit
from fvlightning.features.objectives import Pooling
from fvlightning.io import UnreadableImageError, digest_of_weights, image_size, load_plain, write_atomically
from fvlightning.output import UnitExamples, class_names, write_examples
from fvlightning.protocols import model_name, read_class_names, read_crop_pct
from fvlightning.runs._images import describe_images
from fvlightning.runs._prediction import PictureWork, run_on_ranks
from fvlightning.version import __version__

_SECONDS_BETWEEN_FILES = 30.0
_N_MEASURED = 100


class ExamplePass(PictureWork):
    """Scores the images of a rank, and keeps what the scores amount to in a file in the folder of the results.

    Args:
        model: The model with the units.
        units: The units.
        source: The images, see `fvlightning.data.read_pictures`.
        part: See `read_pictures`.
        n_images: The size of the sample that is taken of them. None: all.
        image_shape: ``(C, H, W)`` that the images of a folder are brought to.
        k: How many are kept at each end.
        pooling: See `fvlightning.features.UnitActivation`.
        folder: The folder of the results. A file in it that is of other settings is not used.

    Attributes:
        unreadable: Why files cannot be read, by their paths; after `run` those of all ranks on rank zero.

    Raises:
        InputError: There are no images.
    """

    def __init__(
        self,
        model: pl.LightningModule,
        units: Sequence[Unit | Objective],
        source: Any,
        *,
        part: str | None,
        n_images: int | None,
        image_shape: tuple[int, ...],
        k: int,
        pooling: Pooling,
        folder: Path,
    ) -> None:
        super().__init__(model)
        self.units = units
        self.crop_pct = read_crop_pct(model)
        self.source = source
        self.selection = PictureSelection(source, part, image_shape=image_shape, crop_pct=self.crop_pct, limit=n_images)
        self.k = k
        self.pooling = pooling
        self.folder = folder
        self.settings = {
            "model": model_name(model),
            "weights": digest_of_weights(model),
            "images": {**describe_images(source), "part": part, "n_images": n_images},
            "image_shape": image_shape,
            "pooling": pooling,
            "k": k,
        }
        self.unreadable: dict[str, str] = {}

    def run(self, trainer: pl.Trainer) -> RunningExamples:
        """Pass all images through the model, on the trainer's devices; return the result of all ranks on rank zero."""
        if isinstance(self.source, str | Path):
            self._say_if_resized(Path(self.source))
        try:
            run_on_ranks(trainer, self)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns SIGINT into SystemExit
            if trainer.is_global_zero:
                print(f"stopped: what is done is in {self.folder}; the same command does the rest", file=sys.stderr)
            raise
        total = RunningExamples(len(self.units), self.k)
        for rank in range(trainer.world_size if trainer.is_global_zero else 0):
            running = self._read(rank, trainer.world_size)
            if running is None:
                raise InputError(f"no results of rank {rank} in {self.folder}; all ranks need the same output_dir")
            total.merge(running)
        if self.unreadable and total.last_place < 0:
            last = UnreadableImageError(*self.unreadable.popitem())
            raise InputError(f"not one of {self.selection.n_pictures} images can be read; the last: {last}")
        return total

    def pages(self, results: Sequence[UnitExamples], datamodule: pl.LightningDataModule | None) -> Iterator[Page]:
        """Return the examples of the units as they are shown (`illustrate`), with the classes of images and units."""
        names = class_names(self.model, datamodule, self.units, self.selection.image_shape)
        of_images = read_class_names(self.source)
        return illustrate(self.model, self.units, results, self.selection, class_names=of_images, unit_classes=names)

    def write_records(self, results: Sequence[UnitExamples]) -> None:
        """Write ``examples.json``, the settings and the examples of the units."""
        versions = {"fvlightning": __version__, "torch": torch.__version__}
        write_examples(results, {**self.settings, "versions": versions}, self.folder / "examples.json")

    def report_unreadable(self) -> None:
        """Name the files that could not be read."""
        errors = [UnreadableImageError(path, reason) for path, reason in sorted(self.unreadable.items())]
        report_unreadable(errors, self.selection.n_pictures or 0)

    def remove_files(self) -> None:
        """Remove the files of all ranks, once their results are elsewhere."""
        for path in self.folder.glob("examples.rank*.pt"):
            path.unlink()

    @override
    def predict_dataloader(self) -> list[int]:
        return [0]  # a single step, on each rank

    @override
    def count_pictures(self) -> tuple[str, int, int]:
        n_pictures = -(-(self.selection.n_pictures or 0) // self.trainer.world_size)
        return "Images", n_pictures, max(n_pictures, 1)

    @override
    def predict_step(self, batch: int, batch_idx: int) -> int:
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        running = RunningExamples(len(self.units), self.k, self.device)
        if (earlier := self._read(rank, world_size)) is not None:
            running.merge(earlier)
            rank_zero_info(f"going on after image {running.last_place}, with the results in {self.folder}")
        # Tensors of inference mode, in which predictions run, cannot be changed elsewhere.
        with torch.inference_mode(False), torch.no_grad():
            scorer = UnitScorer(self.model, self.units, self.pooling)
            written = time.monotonic()
            try:
                for pictures, _, places in self.selection.share(rank, world_size, running.last_place, self._note):
                    running.add(*scorer(pictures), places)
                    self.progress.step(len(pictures))
                    self.progress.done(len(pictures))
                    if time.monotonic() - written > _SECONDS_BETWEEN_FILES:
                        self._write(running)
                        written = time.monotonic()
            finally:
                self._write(running)
        return running.last_place  # Lightning asks about steps without a result

    def _note(self, error: UnreadableImageError) -> None:
        self.unreadable[str(error.path)] = error.reason

    def _say_if_resized(self, folder: Path) -> None:
        """Say so if images are cropped and resized. The sizes of about 100 are looked at."""
        files = self.selection.files or []
        size = self.selection.image_shape[1:]
        for file in files[:: max(1, len(files) // _N_MEASURED)]:
            with suppress(UnreadableImageError):
                if image_size(folder / file) != size:
                    part = "" if self.crop_pct == 1 else f" {100 * self.crop_pct:.4g} % of their sides"
                    rank_zero_info(
                        f"images of other sizes are cropped to the middle{part} and resized to {size[0]} x {size[1]}"
                    )
                    return

    def _path(self, rank: int) -> Path:
        return self.folder / f"examples.rank{rank}.pt"

    def _write(self, running: RunningExamples) -> None:
        key = self._key(self.trainer.world_size)
        tensors = {name: tensor.cpu() for name, tensor in running.state_dict().items()}
        content = {"key": key, "unreadable": self.unreadable, **tensors}
        write_atomically(self._path(self.trainer.global_rank), lambda file: torch.save(content, file))

    def _read(self, rank: int, world_size: int) -> RunningExamples | None:
        """Return the results of a rank so far, or None without any of these settings."""
        with suppress(OSError, InputError):
            path = self._path(rank)
            content: Any = load_plain(path, refused=f"'{path}' holds code", damaged=f"'{path}' is damaged")
            if content["key"] == self._key(world_size):
                running = RunningExamples(len(self.units), self.k)
                running.load_state_dict(content)
                self.unreadable |= content["unreadable"]
                return running
        return None

    def _key(self, world_size: int) -> str:
        return json.dumps({**self.settings, "units": list(map(str, self.units)), "ranks": world_size})
