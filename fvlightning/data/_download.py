"""Sets that torchvision downloads and reads."""

import socket
from abc import abstractmethod
from pathlib import Path
from typing import Any

from typing_extensions import override

from fvlightning.data.base import InMemoryDataModule
from fvlightning.data.tensors import TensorImages
from fvlightning.errors import InputError, one_line
from fvlightning.io import check_writable


class DownloadedDataModule(InMemoryDataModule):
    """A set of torchvision that is downloaded where it is missing.

    Args:
        data_dir: Folder of the set, torchvision's ``root``.
        download: Whether the set is downloaded if `data_dir` does not have it.
        **settings: See `InMemoryDataModule`.

    Attributes:
        set_name: Name of the set, for messages.
        folder_name: Folder of its files below `data_dir`.
        file_names: The files in that folder.
    """

    set_name: str
    folder_name: str
    file_names: tuple[str, ...]

    def __init__(self, data_dir: str | Path = "data", *, download: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.data_dir = Path(data_dir)
        self.download = download

    @abstractmethod
    def torchvision_set(self, **options: bool) -> Any:
        """Return torchvision's set in `data_dir`; `options` are its ``train`` and ``download``."""

    @abstractmethod
    def convert(self, torchvision_set: Any) -> TensorImages:
        """Return the images and labels of torchvision's set."""

    @abstractmethod
    def advise(self) -> str:
        """Return what to do without the set, for messages."""

    @override
    def prepare_data(self) -> None:
        """Download the set if it is missing; raise `InputError` if `download` is off or fails."""
        if self._is_on_disk():
            return
        if not self.download:
            raise self._missing("download is off")
        # torchvision sets no timeout, so a firewall could stall it for ever.
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(30.0)
        try:
            check_writable(self.data_dir)
            self.torchvision_set(download=True)
        # torchvision raises RuntimeError once all mirrors have failed.
        except (InputError, OSError, RuntimeError) as error:
            raise self._missing(f"the download failed ({one_line(error)})") from error
        finally:
            socket.setdefaulttimeout(timeout)

    @override
    def load(self) -> tuple[TensorImages, TensorImages]:
        """Read the set from the disk; raise `InputError` if files are missing or damaged."""
        if not self._is_on_disk():
            raise self._missing("nothing was downloaded")
        return self._load_part("training", train=True), self._load_part("test", train=False)

    def _load_part(self, name: str, train: bool) -> TensorImages:
        try:
            return self.convert(self.torchvision_set(train=train))
        # The error of a damaged file depends on the byte that is wrong: torchvision checks little.
        except Exception as error:
            raise InputError(
                f"cannot read the {name} images of {self.set_name} in {self._folder}: {one_line(error)}; the files are "
                "damaged or incomplete: delete the folder to have them downloaded again"
            ) from error

    @property
    def _folder(self) -> Path:
        return (self.data_dir / self.folder_name).resolve()

    def _is_on_disk(self) -> bool:
        return all((self._folder / name).is_file() for name in self.file_names)

    def _missing(self, reason: str) -> InputError:
        return InputError(f"no {self.set_name} in {self._folder}: {reason}; {self.advise()}")
