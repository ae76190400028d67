"""Files of weights are read without running code, and problems are told apart."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fvlightning.errors import InputError
from fvlightning.io import load_plain, read_checkpoint


class Harmful:
    def __reduce__(self) -> Any:
        return pytest.fail, ("code of the file was run",)


def truncated(path: Path) -> None:
    torch.save({"weight": torch.rand(100)}, path)
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: torch.save({"harm": Harmful()}, path), "refused"),
        (lambda path: path.write_bytes(pickle.dumps(Harmful())), "refused"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)), "refused"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_text("no weights"), "damaged"),
        (truncated, "damaged"),
    ],
)
def test_code_is_refused_and_other_problems_are_damage(tmp_path: Path, write: Any, message: str):
    write(tmp_path / "file.pt")
    with pytest.raises(InputError, match=f"^{message}$"):
        load_plain(tmp_path / "file.pt", refused="refused", damaged="damaged")


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path):
    torch.save({"weight": torch.zeros(2**18)}, tmp_path / "file.pt")
    with zipfile.ZipFile(tmp_path / "file.pt") as saved, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for part in saved.infolist():
            bomb.writestr(part.filename, saved.read(part), zipfile.ZIP_DEFLATED)
    message = r"bomb.pt' is compressed, 0.0 MiB that unpack to 1.0 MiB, and is refused; give the file that torch.save"
    with pytest.raises(InputError, match=message):
        load_plain(tmp_path / "bomb.pt", refused="refused", damaged="damaged")


def test_tensors_and_plain_values_are_read(tmp_path: Path):
    torch.save({"weight": torch.arange(3), "names": ["a"]}, tmp_path / "file.pt")
    content: Any = load_plain(tmp_path / "file.pt", refused="refused", damaged="damaged")
    assert content["weight"].tolist() == [0, 1, 2]
    assert content["names"] == ["a"]


def test_checkpoints_that_lightning_did_not_write_say_so(tmp_path: Path):
    path = str(tmp_path / "file.ckpt")
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"file.ckpt' is not a Lightning checkpoint: it has no 'state_dict'"):
        read_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(InputError, match="it has no 'pytorch-lightning_version'"):
        read_checkpoint(path)
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.4"}, path)
    assert read_checkpoint(path)["state_dict"] == {}
    torch.save(Harmful(), path)
    with pytest.raises(InputError, match=r"holds more than .* plain values \(.*\), and is refused: .*; save it again"):
        read_checkpoint(path)
