"""Sets that the library `datasets` reads: those of the Hugging Face hub, and files of its formats."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fvlightning.errors import InputError, did_you_mean, one_line

DataFiles = str | list[str] | dict[str, str | list[str]]

FORMATS = ("parquet", "webdataset", "arrow")
_PARTS = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_SECONDS_TO_ANSWER = 5.0
_LONGEST_REASON = 300  # characters
_DISK_ERRORS = (errno.EACCES, errno.ENOENT, errno.ENOSPC, errno.EROFS)


class HubSource:
    """A set that `datasets` reads. For the arguments see `HuggingFaceDataModule`.

    Attributes:
        place: Where the set is, for messages.
    """

    def __init__(
        self, path: str, data_dir: str | Path | None, data_files: DataFiles | None, **options: str | Path | None
    ) -> None:
        self.path = path
        folder = data_dir if path in FORMATS else path
        self.place = " in ".join(str(part) for part in (data_files, folder) if part is not None)
        self._folder = None if data_dir is None else Path(data_dir)
        self._options: dict[str, Any] = {key: value and str(value) for key, value in options.items()}
        self._options["data_files"] = data_files
        if path in FORMATS:
            self._options["data_dir"] = data_dir and str(data_dir)
        elif self._folder is not None and self._folder.is_dir():
            rank_zero_warn(f"data_dir has no effect: {path} is read, and not {data_dir}", stacklevel=2)

    def features(self) -> Mapping[str, Any]:
        """Return the types of the columns of the training images, without making the copy."""
        with self._errors_named():
            tables = self._builder.as_streaming_dataset()
        features: Mapping[str, Any] = self._by_part(tables)["train"].features
        return features

    def tables(self) -> dict[str, Any]:
        """Return the tables of the parts that there are, ``train`` among them; make the copy if there is none yet."""
        with self._errors_named(shows_progress=True):
            if not os.path.isdir(self._builder.cache_dir):
                rank_zero_info(f"{self.place} is copied once for fast access, to {self._builder.cache_dir}.")
            self._builder.download_and_prepare()  # of several processes one works, and the others wait
            tables = self._builder.as_dataset()
        return self._by_part(tables)

    @cached_property
    def _builder(self) -> Any:
        from datasets import load_dataset_builder

        builder = load_dataset_builder(self.path, **self._options)
        if missing := [str(part) for part, files in (builder.config.data_files or {}).items() if not files]:
            raise InputError(f"{self.place}: no files for {', '.join(missing)}; see the patterns in data_files")
        return builder

    def _by_part(self, tables: Mapping[str, Any]) -> dict[str, Any]:
        parts = {
            part: tables[next(name for name in names if name in tables)]
            for part, names in _PARTS.items()
            if not tables.keys().isdisjoint(names)
        }
        if "train" not in parts:
            raise InputError(
                f"{self.place} has {', '.join(map(str, tables))} but no train; say which files to train on: "
                "data_files {train: PATTERN}"
            )
        return parts

    @contextmanager
    def _errors_named(self, shows_progress: bool = False) -> Iterator[None]:
        """Let `datasets` work in silence, and raise `InputError` for whatever goes wrong in it."""
        try:
            import datasets
            import huggingface_hub.utils as hub
        except ImportError as error:
            raise InputError("HuggingFaceDataModule needs datasets; run pip install 'fvlightning[hub]'") from error
        self._require_place()
        verbosity, libraries = datasets.logging.get_verbosity(), (datasets, hub)
        hidden = [library.are_progress_bars_disabled() for library in libraries]
        datasets.logging.set_verbosity(logging.CRITICAL)  # its errors are raised, too
        shows_progress = shows_progress and sys.stderr.isatty()
        _hide_bars(libraries, [is_hidden or not shows_progress for is_hidden in hidden])
        try:
            yield
        except InputError:
            raise
        # The errors of damaged files and of the network are of many kinds.
        except Exception as error:
            raise InputError(f"cannot read {self.place}: {_reason(error)}{self._advice(error)}") from error
        finally:
            datasets.logging.set_verbosity(verbosity)
            _hide_bars(libraries, hidden)

    def _require_place(self) -> None:
        """Raise `InputError` if there are no such files or the hub does not answer, which it is asked only once."""
        if self.path in FORMATS:
            if self._folder is None and self._options["data_files"] is None:
                raise InputError(f"path: {self.path} is a format; set data_dir, the folder of the files, or data_files")
            if self._folder is not None and not self._folder.is_dir():
                raise InputError(f"data_dir: there is no folder '{self._folder}'; give one with {self.path} files")
            return
        if "_builder" in vars(self) or os.path.isdir(self.path):
            return
        if os.path.exists(self.path) or Path(self.path).is_absolute() or self.path.count("/") > 1:
            problem = "is a file" if os.path.exists(self.path) else "does not exist"
            raise InputError(
                f"path: {self.path} {problem}; give a folder, a set of the hub (OWNER/NAME), or a format ("
                f"{', '.join(FORMATS)}) with data_dir or data_files"
            )
        from huggingface_hub import constants, get_session

        if constants.HF_HUB_OFFLINE:
            return
        # Its own client would try again for most of a minute.
        try:
            get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
        except Exception as error:  # from requests or httpx, depending on the version of huggingface_hub
            raise InputError(
                f"there is no folder '{self.path}', and {constants.ENDPOINT} cannot be reached ({_reason(error)})"
                f"{self._advice(error)}"
            ) from error

    def _advice(self, error: Exception) -> str:
        """Return what to do about an error, to end its message."""
        from huggingface_hub import constants

        text, cause = str(error), _cause(error)
        if getattr(cause, "errno", None) in _DISK_ERRORS or "disk space" in str(cause):
            return "; set cache_dir to a folder that can be written to, with room for a copy of the set"
        if text.startswith(("BuilderConfig", "Config name is missing")):
            return "; set name to one of them"
        if "corresponds to no data" in text:
            return "; its files have no rows: set data_files without them"
        if self.path in FORMATS:
            return f"; see that there are such files, that they are whole, and of the format {self.path}"
        if os.path.isdir(self.path):
            return "; see that there are files in it, that they are whole, and of one format"
        if "gated" in text or "authenticated" in text:
            return "; run hf auth login, or set HF_TOKEN"
        if constants.HF_HUB_OFFLINE:
            return "; it is not in the cache, and HF_HUB_OFFLINE is set: give a folder with a copy of its files as path"
        return (
            "; offline, give a folder with a copy of its files as path, or set HF_HUB_OFFLINE=1 if the set is in the "
            f"cache already{did_you_mean(self.path, FORMATS)}"
        )


def _hide_bars(libraries: Sequence[Any], are_hidden: Sequence[bool]) -> None:
    for library, is_hidden in zip(libraries, are_hidden, strict=True):
        with warnings.catch_warnings(action="ignore"):  # a variable of the environment may decide
            library.disable_progress_bars() if is_hidden else library.enable_progress_bars()


def _reason(error: Exception) -> str:
    return one_line(_cause(error))[:_LONGEST_REASON]


def _cause(error: Exception) -> Exception:
    """Return the error that an error of `datasets` hides, or itself."""
    hides = type(error).__name__.startswith("DatasetGeneration") and isinstance(error.__cause__, Exception)
    return error.__cause__ if hides else error  # type: ignore[return-value]
