"""Lightning's trainer, and what this project adds to its methods."""

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Parametrization, resolve_objectives
from fvlightning.features.capture.survey import survey_layers
from fvlightning.output import check_writable
from fvlightning.output.progress import picture_progress
from fvlightning.protocols import picture_shape
from fvlightning.runs.compare import run_comparison
from fvlightning.runs.magnitude import DataPictures, FolderPictures, keep_magnitude
from fvlightning.runs.pictures import report_pictures, run_pictures


class Trainer(pl.Trainer):
    """Lightning's trainer with the subcommands of this project."""

    def visualize(
        self,
        model: pl.LightningModule,
        units: Sequence[str] | str = (),
        maximizer: Maximizer | None = None,
        output_dir: str = "out",
        batch_size: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        overwrite: bool = False,
        list_layers: bool = False,
        ckpt_path: str | None = None,
        weights_only: bool = True,
        datamodule: pl.LightningDataModule | None = None,
    ) -> None:
        """Make pictures of what units look for, and write them to a folder.

        Each picture is written when it is done, ``OUTPUT_DIR/LAYER/INDEX.png``; at the end there are a contact sheet
        a layer, ``OUTPUT_DIR/LAYER.png``, and ``OUTPUT_DIR/features.json``. Weighted sums of units are in
        ``OUTPUT_DIR/sums``; snapshots are a strip a picture, ``INDEX_steps.png``. A second run makes what is missing,
        or was made with other settings or another model.

        Args:
            model: The model whose units are looked at.
            units: What is maximised, for example '["conv2:*", "fc2:7"]', or 'fc2:7 - 0.5*fc2:3'.
            maximizer: How the pictures are made.
            output_dir: Folder of the results.
            batch_size: How many pictures are optimised at once on each device. Default: what it holds.
            image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
            overwrite: Whether pictures that are there already are made again.
            list_layers: Print the layers with their output shapes and numbers of units, and make no pictures.
            ckpt_path: Checkpoint whose weights are used. Default: the weights that the model is made with.
            weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
            datamodule: Data, whose image shape is taken where the model does not know it, and the names of the classes.

        Raises:
            InputError: A unit or the checkpoint cannot be used, the folder cannot be written, or units gave values that
                are not finite; the pictures of the others are there then.
        """
        if ckpt_path is not None:
            _load_weights(model, ckpt_path)
        shape = picture_shape(model, datamodule, image_shape)
        if list_layers:
            return _print_layers(model, shape)
        maximizer = _with_batch_size(maximizer, batch_size)
        resolved = resolve_objectives(model, units, shape, maximizer.pooling)
        folder = Path(output_dir)
        if self.is_global_zero:
            check_writable(folder)
        records = run_pictures(self, model, resolved, maximizer, shape, folder, overwrite, datamodule=datamodule)
        if self.is_global_zero:
            report_pictures(records, folder)

    def compare(
        self,
        model: pl.LightningModule,
        spaces: dict[str, Parametrization] | None = None,
        units: Sequence[str] | str = (),
        maximizer: Maximizer | None = None,
        output_dir: str = "comparison",
        batch_size: int | None = None,
        n_images: int = 5000,
        overwrite: bool = False,
        ckpt_path: str | None = None,
        weights_only: bool = True,
        datamodule: pl.LightningDataModule | None = None,
    ) -> None:
        """Make pictures of the same units in several spaces on the same budget, and measure them side by side.

        The pictures of each space are in OUTPUT_DIR/SPACE, as visualize writes them; a second run makes what is
        missing. OUTPUT_DIR/comparison.png has a row a unit and a column a space, the first the natural image that
        excites the unit most. OUTPUT_DIR/comparison.md has the medians: the activation over the largest that a natural
        image reaches, that over random views, total variation, spectral slope, and the distance to the nearest natural
        image where the last layer reads; OUTPUT_DIR/comparison.json has these of each picture.

        Args:
            model: The model whose units are looked at.
            spaces: Parametrisations of pictures by names of your own, as --spaces.pixel PixelImage.
            units: What is maximised, for example '["conv3:*", "fc2:7"]'.
            maximizer: How the pictures are made; its image is that of each space in turn.
            output_dir: Folder of the results.
            batch_size: How many pictures are optimised at once on each device. Default: what it holds.
            n_images: How many natural images are measured at most: of the test set, or else of that for validation.
            overwrite: Whether pictures that are there already are made again.
            ckpt_path: Checkpoint whose weights are used. Default: the weights that the model is made with.
            weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
            datamodule: Data, whose images are the natural ones, and which may name the classes.

        Raises:
            InputError: There are no data or no spaces, a space cannot make pictures of the model's shape, or as of
                visualize.
        """
        if datamodule is None:
            raise InputError("compare needs natural images to compare with: give --data, a data module")
        if n_images < 2:
            raise InputError(f"n_images={n_images}: must be at least 2, of which one is the nearest to the other")
        if ckpt_path is not None:
            _load_weights(model, ckpt_path)
        maximizer = _with_batch_size(maximizer, batch_size)
        shape = picture_shape(model, datamodule)
        resolved = resolve_objectives(model, units, shape, maximizer.pooling)
        folder = Path(output_dir)
        records, table = run_comparison(
            self, model, datamodule, resolved, spaces or {}, maximizer, shape, folder, n_images, overwrite
        )
        if self.is_global_zero:
            print(table, end="")
            report_pictures(records, folder)

    def magnitude(
        self,
        output: str,
        images: str | None = None,
        image_shape: tuple[int, int, int] | None = None,
        decorrelate: bool = True,
        overwrite: bool = False,
        model: pl.LightningModule | None = None,
        datamodule: pl.LightningDataModule | None = None,
    ) -> None:
        """Measure how much of each frequency images have, for MagnitudeConstrainedImage, and write it to a file.

        Of a folder of images of any size (--images), or of the training images of a data module (--data). A second run
        with the same images and settings keeps the file.

        Args:
            output: File of the spectrum, NAME.pt or NAME.safetensors: the image's setting 'magnitude'.
            images: Folder with images, subfolders included; the middle of each is taken. Instead of --data.
            image_shape: Shape that the images are brought to, [C, H, W]. Default: the data module's image_shape.
            decorrelate: Whether the colours of three channels are decorrelated, as the image's setting has it.
            overwrite: Whether a file that is there already is replaced.
            model: Not needed; one in a config has no effect.
            datamodule: Data whose training images are measured.

        Raises:
            InputError: There are no images, none can be read, or the file cannot be written or has something else.
        """
        if not self.is_global_zero:
            return
        if (images is None) == (datamodule is None):
            raise InputError("magnitude needs images: either --images FOLDER, or --data with a data module, not both")
        pictures: DataPictures | FolderPictures
        if datamodule is not None:
            pictures = DataPictures(datamodule, image_shape)
        elif images is not None and image_shape is not None:
            pictures = FolderPictures(images, image_shape)
        else:
            raise InputError("--images needs --image_shape '[C, H, W]', the shape of the pictures to be made")
        with picture_progress(self, self.progress_bar_callback, "Images", len(pictures), len(pictures)) as progress:

            def on_batch() -> None:
                progress.step(1)
                progress.done()

            measured = keep_magnitude(pictures, output, decorrelate, overwrite, on_batch)
        if measured:
            print(f"Spectrum:    {output}")
        else:
            print(
                f"{output} is there already, measured with these settings, and kept; --overwrite true measures it again"
            )


def _load_weights(model: pl.LightningModule, ckpt_path: str) -> None:
    from fvlightning.io.checkpoints import read_checkpoint

    model.load_state_dict(read_checkpoint(ckpt_path)["state_dict"])


def _with_batch_size(maximizer: Maximizer | None, batch_size: int | None) -> Maximizer:
    maximizer = maximizer if maximizer is not None else Maximizer()
    if batch_size is not None:
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be at least 1")
        maximizer.batch_size = batch_size
    return maximizer


def _print_layers(model: pl.LightningModule, shape: tuple[int, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("layer", "kind", "output", "units", title=f"{type(getattr(model, 'net', model)).__name__}, {shape}")
    for layer in survey_layers(model, shape):
        table.add_row(str(layer.layer), layer.kind, " x ".join(map(str, layer.shape)), str(layer.n_units))
    # In layers' names brackets are those of an output, not those of a style.
    Console(markup=False).print(table)
