"""``cross_evaluate``: models judge the pictures that were made for each other."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import lightning.pytorch as pl

from fvlightning.analysis import OTHERS, ClassLabel, Judge, JudgedPicture, summarize
from fvlightning.errors import InputError, did_you_mean, one_line
from fvlightning.features import Maximizer, Objective, Unit, picture_generator
from fvlightning.features.objectives import Pooling
from fvlightning.io import check_writable, digest_of_weights, require_checkpoint
from fvlightning.output import Record, log_image, log_scalars, picture_progress
from fvlightning.protocols import model_name, picture_shape, read_class_names
from fvlightning.runs._class_pictures import (
    NATURAL,
    NONE,
    TRANSFORMS,
    ClassPicture,
    made_pictures,
    natural_pictures,
    read_folders,
)
from fvlightning.runs._cross_evaluation_files import write_cross_evaluation
from fvlightning.runs._pictures import (
    check_folder_name,
    checked_units,
    load_checkpoint,
    report_pictures,
    run_pictures,
    with_batch_size,
)


def cross_evaluate(
    trainer: pl.Trainer,
    models: dict[str, pl.LightningModule],
    classes: Sequence[int | str] = (),
    maximizer: Maximizer | None = None,
    output_dir: str = "cross_evaluation",
    *,
    pictures: Sequence[str] | str = (),
    images: str | None = None,
    datamodule: pl.LightningDataModule | None = None,
    ckpt_paths: dict[str, str] | None = None,
    n_views: int = 16,
    n_images: int = 20,
    flip: bool | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    overwrite: bool = False,
) -> None:
    """Let models judge each other's pictures of classes.

        fvlightning cross_evaluate --config configs/cross_evaluate_lite.yaml --output_dir out

    A picture that only its own model recognises shows a quirk of that model. Pictures of the same classes are made for
    each model: with the maximizer's random transforms in OUTPUT_DIR/NAME/transforms, without in OUTPUT_DIR/NAME/none,
    as visualize writes them. A second run makes only those that are missing. With --pictures they come from folders
    that visualize has written.

    Every model judges random views of each picture, of half to all of its area: the share of views to which it gives
    the picture's class (accuracy), and the mean probability of that class. OUTPUT_DIR/cross_evaluation.md and .csv have
    the means over pictures with their standard errors; 'others' are the models that a picture was not made for. The
    .png is a heat map, and the .json has every picture.

    Args:
        trainer: The trainer.
        models: The models by names of your own, at best in a config.
        classes: Indices in the first model, or names, for example '[207, "tennis ball"]'. Models of other classes are
            matched by class names. With --pictures the default is all that there are.
        maximizer: How the pictures are made.
        output_dir: Folder of the results.
        pictures: Folders that visualize has written, for example '[out/lite0, out/lite1]'. Default: pictures are made.
        images: Folder with natural images, a row to compare with: a subfolder for each class, named by its name, index
            or WordNet id (n02099601). They are cropped as for the model with the largest pictures.
        datamodule: Data with natural images and labels, instead of --images; their class names are those of each model
            with as many classes.
        ckpt_paths: Checkpoints by the names of models. Default: the weights that a model is made with.
        n_views: Random views of each picture. Every model judges the same.
        n_images: Most natural images of a class.
        flip: Whether half of the views are mirrored. Default: those of pictures in colour; a digit is not.
        seed: Seed of the views.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        overwrite: Whether pictures that exist are made again.

    Raises:
        InputError: A model, a checkpoint, a class or a folder cannot be used, models have classes that do not match, or
            pictures gave values that are not finite.
    """
    for name, number in (("n_views", n_views), ("n_images", n_images)):
        if number < 1:
            raise InputError(f"cross_evaluate({name}={number}): must be at least 1")
    if images is not None and datamodule is not None:
        raise InputError("cross_evaluate takes natural images from --images or from --data, not from both")
    check_names(models)
    load_weights(models, ckpt_paths or {})
    judges = [make_judge(name, model, datamodule) for name, model in models.items()]
    labels = list(dict.fromkeys(judges[0].label(chosen) for chosen in classes))
    folders = [pictures] if isinstance(pictures, str) else pictures
    if not (labels or folders):
        raise InputError("no classes are given; give some, for example --classes '[0, 1]', or folders with --pictures")
    maximizers = make_maximizers(with_batch_size(maximizer, batch_size))
    pooling = maximizers[NONE].settings.pooling
    makers = [] if folders else judges
    units = {judge.name: class_units(judge, labels, pooling) for judge in makers}
    folder = Path(output_dir)
    judging = partial(judge_pictures, trainer, judges, n_views=n_views, flip=flip, seed=seed)
    made: list[ClassPicture] = []
    natural: list[JudgedPicture] = []
    if trainer.is_global_zero:
        # Before any picture is made, so that unusable folders and data end the run at once.
        check_writable(folder)
        if folders:
            made = list(read_folders(folders, judges, labels))
            labels = labels or list(dict.fromkeys(picture.label for picture in made))
        source = images if datamodule is None else datamodule
        if source is not None:
            natural = judging(natural_pictures(source, judges, labels, n_images), n_images * len(labels))
    records: list[Record] = []
    for judge, (mode, maximizer_of_mode) in product(makers, maximizers.items()):
        place = folder / judge.name / mode
        new = run_pictures(
            trainer,
            models[judge.name],
            units[judge.name],
            maximizer_of_mode,
            place,
            image_shape=judge.image_shape,
            overwrite=overwrite,
            tag=f"{judge.name}/{mode}",
            datamodule=datamodule,
        )
        made += made_pictures(place, new, judge, judge.name)
        records += new
    if not trainer.is_global_zero:
        return
    judged = [*judging(made, len(made)), *natural]
    cells = summarize(judged)
    settings = {
        "models": {
            judge.name: {"model": model_name(judge.network), "weights": digest_of_weights(judge.network)}
            for judge in judges
        },
        "classes": [str(label) for label in labels],
        "views": {"number": n_views, "flip": flip, "seed": seed},
    }
    table, image = write_cross_evaluation(folder, cells, judged, settings)
    print(table, end="")
    log_image(trainer.loggers, "cross_evaluation/heat_map", image, 0)
    for cell in cells:
        name = "/".join(filter(None, (cell.source, cell.mode, cell.judge)))
        scores = {"accuracy": cell.accuracy, "probability": cell.probability}
        log_scalars(trainer.loggers, {f"cross_evaluation/{key}/{name}": value for key, value in scores.items()}, 0)
    for logger in trainer.loggers:
        logger.finalize("success")  # writes what TensorBoard's logger still keeps in memory
    if records:
        report_pictures(records, folder)


def check_names(models: Mapping[str, object]) -> None:
    """Raise `InputError` if there are no models, or a name cannot be that of a folder and a row of the table."""
    if not models:
        raise InputError("no models to compare; give some under models in a config")
    for name in models:
        check_folder_name(name, "a model", (NATURAL, OTHERS), "stand in the table")


def load_weights(models: Mapping[str, pl.LightningModule], ckpt_paths: Mapping[str, str]) -> None:
    """Load checkpoints into models by name; raise `InputError` if there is no such model, or one does not fit."""
    for name, path in ckpt_paths.items():
        if name not in models:
            raise InputError(f"ckpt_paths: no model {name!r}; models: {', '.join(models)}{did_you_mean(name, models)}")
        require_checkpoint(path, "cross_evaluate", "runs")
        try:
            load_checkpoint(models[name], path)
        except RuntimeError as error:
            raise InputError(f"'{path}' does not fit model {name!r}: {one_line(error)}") from error


def make_judge(name: str, model: pl.LightningModule, datamodule: pl.LightningDataModule | None) -> Judge:
    """Return a model as a judge, its classes named by the data, or else by itself."""
    names = [read_class_names(source) for source in (datamodule, model)]
    return Judge(name, model, picture_shape(model, datamodule), names)


def class_units(judge: Judge, labels: Sequence[ClassLabel], pooling: Pooling) -> list[Unit | Objective]:
    """Return the units of a model that stand for classes; raise `InputError` if pictures cannot change them."""
    names = [f"{judge.layer}:{judge.index_of(label)}" for label in labels]
    return checked_units(judge.network, names, judge.image_shape, pooling)


def make_maximizers(maximizer: Maximizer) -> dict[str, Maximizer]:
    """Return maximizers with and without random transforms by mode; raise `InputError` if there are no transforms."""
    if not maximizer.settings.transforms:
        raise InputError("the maximizer has no transforms, and pictures are made with and without; give it some")
    return {TRANSFORMS: maximizer, NONE: maximizer.replace(transforms=(), transforms_per_step=1)}


def judge_pictures(
    trainer: pl.Trainer,
    judges: Sequence[Judge],
    pictures: Iterable[ClassPicture],
    n_pictures: int,
    *,
    n_views: int,
    flip: bool | None,
    seed: int,
) -> list[JudgedPicture]:
    """Let each judge look at random views of each picture, the same for all judges, on the trainer's device."""
    for judge in judges:
        judge.network.to(trainer.strategy.root_device)  # Lightning has moved it away
    judged = []
    with picture_progress(trainer, trainer.progress_bar_callback, "Judged", n_pictures, n_pictures) as progress:
        for one in pictures:
            flips = len(one.picture) == 3 if flip is None else flip
            verdicts = {
                judge.name: judge.verdict(
                    one.picture, one.label, picture_generator(seed, one.views, 0), n_views, flip=flips
                )
                for judge in judges
            }
            judged.append(JudgedPicture(one.source, one.mode, one.file, str(one.label), verdicts))
            progress.step(1)
            progress.done()
    return judged
