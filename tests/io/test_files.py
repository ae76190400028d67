"""Files are written whole or not at all."""

import json
import os
import time
from pathlib import Path

import pytest

from fvlightning.errors import InputError
from fvlightning.io import check_writable, remove_unfinished, write_atomically, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"old")

    def fails(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"no space left in .*: free some, and run the same command again"):
        write_atomically(tmp_path / "picture.png", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    assert (tmp_path / "picture.png").read_bytes() == b"old"


def test_texts_and_plain_values_are_written_into_new_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "new/text.md", "größer ✓\n")
    assert (tmp_path / "new/text.md").read_bytes() == "größer ✓\n".encode()
    value = {"names": ["a", "b"], "path": Path("x/y"), "score": 0.1}
    write_json(tmp_path / "values.json", value)
    assert json.loads((tmp_path / "values.json").read_text()) == {**value, "path": "x/y"}
    assert (tmp_path / "values.json").read_text() == json.dumps(value, indent=1, default=str)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "text.md", "values.json"]


def test_values_that_are_not_json_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="keys must be"):
        write_json(tmp_path / "values.json", {(1, 2): 3})
    assert not list(tmp_path.iterdir())


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    for name in (".old.png.1.tmp", ".new.png.2.tmp", "old.tmp"):
        (tmp_path / name).touch()
    for name in (".old.png.1.tmp", "old.tmp"):
        os.utime(tmp_path / name, (0, time.time() - 100))
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.png.2.tmp", "old.tmp"]


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to the folder .*file: .*; choose another one"):
        check_writable(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that the kernel makes")
def test_a_file_system_without_new_folders_is_named_as_such() -> None:
    with pytest.raises(InputError, match=r"^cannot write to the folder /proc/x: no folder can be made there; choose"):
        check_writable(Path("/proc/x"))
