import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fvlightning

ROOT = Path(__file__).parents[1]


def test_public_names_are_sorted_and_complete():
    assert fvlightning.__all__ == sorted(fvlightning.__all__)
    assert set(fvlightning.__all__) <= set(dir(fvlightning))


@pytest.mark.parametrize("name", fvlightning.__all__)
def test_public_name_is_imported_from_one_room(name):
    rooms = ["errors", "networks", "features", "data", "models", "callbacks"]
    homes = [importlib.import_module(f"fvlightning.{room}") for room in rooms]
    (home,) = [home for home in homes if name in getattr(home, "__all__", ["InputError"])]
    assert getattr(fvlightning, name) is getattr(home, name)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fvlightning' has no attribute 'Nothing'"):
        fvlightning.Nothing  # noqa: B018


def test_networks_and_the_engine_load_no_lightning():
    command = "import sys; from fvlightning import MnistCNN, Maximizer; print('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_import_and_version_load_neither_torch_nor_lightning():
    command = (
        "import sys; from fvlightning.cli import main; status = main(['--version']);"
        "print(status, sorted({'torch', 'lightning', 'numpy', 'jsonargparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == f"fvlightning {fvlightning.__version__}\n0 []\n"


def test_version_has_one_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fvlightning.version.__version__"}


def test_types_are_shipped():
    assert (Path(fvlightning.__file__).parent / "py.typed").exists()


def test_constraints_pin_all_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [dependency for group in [project["dependencies"], *extras] for dependency in group]
    pins = (ROOT / "tools" / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins}
    for dependency in requirements:
        assert dependency.partition(">")[0].partition("[")[0] in pinned
