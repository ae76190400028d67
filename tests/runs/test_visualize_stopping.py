"""`visualize` stopped in the middle of a real process: by a signal, by a kill, or by a full disk."""

import os
import signal
from pathlib import Path

import pytest
from visualizing import COMMON, files, records, start, wait_for_pictures

from fvlightning.cli import main

# Each batch is long enough to be stopped in its middle.
LONG = ["--units", '["conv:*", "fc:0-3"]', "--maximizer.steps=150", "--batch_size=1"]
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
]


def written() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("out").glob("*/*.png")}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("unbroken") / "out"
    assert main([*COMMON, *LONG, "--output_dir", str(folder)]) == 0
    return str(folder)


def test_a_second_run_after_a_kill_ends_like_an_unbroken_one(unbroken):
    with start(*LONG) as process:
        wait_for_pictures(process, 3)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = written()
    assert 3 <= len(done) < 10
    assert not Path("out/features.json").exists()
    # A kill in the middle of writing leaves a temporary file. A new one may belong to another process, and stays.
    for name, age in (("old", 100), ("new", 0)):
        temporary = Path(f"out/conv/.0.png.{name}.tmp")
        temporary.write_text("half")
        os.utime(temporary, (temporary.stat().st_atime, temporary.stat().st_mtime - age))
    assert main([*COMMON, *LONG]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert records() == records(unbroken)
    assert files() == files(unbroken) | {"conv/.0.png.new.tmp"}


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_keeps_finished_pictures_and_names_the_command(name, status, unbroken):
    with start(*LONG) as process:
        wait_for_pictures(process, 2)
        process.send_signal(getattr(signal, name))
        output, _ = process.communicate(timeout=30)
    assert process.returncode == status, output
    done = written()
    assert 2 <= len(done) < 10
    assert output.splitlines()[-1] == f"stopped: {len(done)} of 10 units are in out; the same command makes the rest"
    assert "Traceback" not in output
    # No bar without a terminal.
    assert "\r" not in output
    assert not list(Path("out").rglob("*.tmp"))
    assert main([*COMMON, *LONG]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert records() == records(unbroken)


def test_no_process_is_left_behind_when_two_are_stopped():
    # Ctrl+C in a terminal goes to all processes of the command.
    with start(*LONG, "--trainer.devices=2", start_new_session=True) as process:
        wait_for_pictures(process, 4)
        os.killpg(process.pid, signal.SIGINT)
        # The second writes to the same pipe, which ends only with both.
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"stopped: {len(written())} of 10 units are in out; the same command makes the rest" in output


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
from fvlightning.cli import main
sys.exit(main())
"""


def test_a_full_disk_ends_in_one_line_and_leaves_no_partial_file():
    with start("--units", '["conv:0"]', program=("-c", LIMITED)) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    line = "error: no space left in out/conv (file too large): free some, and run the same command again"
    assert output.splitlines()[-1] == line
    assert files() == set()
