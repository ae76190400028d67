"""The layout that the README's section 'Inside' draws, asserted from the imports themselves."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from fvlightning.trainer import COMMANDS, Trainer

PACKAGE = Path(__file__).parents[1] / "fvlightning"
# From top to bottom: a file imports from its own folder and from the floors below. Names on one line share a floor.
FLOORS = [
    "__main__",
    "cli",
    "trainer",
    "runs",
    "callbacks",
    "analysis",
    "output",
    "features",
    "models",
    "networks",
    "data",
    "io",
    "protocols",
    "schedules sharding",
    "averaging",
    "errors version",
]
FLOORS_OF_FEATURES = [
    "maximizer",
    "loop",
    "fast",
    "scoring",
    "feature",
    "objectives",
    "capture",
    "images starts",
    "transforms penalties scales rng units",
    "description",
]
# The package itself, which offers the public names on first use.
ROOT = "fvlightning"


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports_of(file: Path) -> set[str]:
    """Return the modules of the package that a file imports, at any place in it: ``a.b`` for names of ``a.b``."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            assert node.module is not None
            # A name may be a module of its own.
            found |= {name if (name := f"{node.module}.{alias.name}") in FILES else node.module for alias in node.names}
    return {name for name in found if name.partition(".")[0] == ROOT}


IMPORTS = {name: imports_of(file) for name, file in FILES.items()}
PACKAGES = {name for name, file in FILES.items() if file.stem == "__init__"}


def folder_of(name: str) -> str:
    return name if name in PACKAGES else name.rpartition(".")[0]


def floor(name: str, floors: list[str], below: str) -> int | None:
    room = name.removeprefix(f"{below}.").partition(".")[0]
    return next((height for height, rooms in enumerate(floors) if room in rooms.split()), None)


def test_every_module_has_a_floor():
    names = [name for name in FILES if name != ROOT]
    assert [name for name in names if floor(name, FLOORS, ROOT) is None] == []
    engine = [name for name in names if name.startswith(f"{ROOT}.features.")]
    assert [name for name in engine if floor(name, FLOORS_OF_FEATURES, f"{ROOT}.features") is None] == []


@pytest.mark.parametrize("name", [name for name in FILES if name != ROOT])
def test_imports_point_down(name):
    for imported in IMPORTS[name]:
        for floors, below in ((FLOORS, ROOT), (FLOORS_OF_FEATURES, f"{ROOT}.features")):
            inside = [each.startswith(f"{below}.") and each != below for each in (name, imported)]
            if not all(inside):
                continue
            room, other = (each.removeprefix(f"{below}.").partition(".")[0] for each in (name, imported))
            if room != other:
                above, reached = floor(name, floors, below), floor(imported, floors, below)
                assert above is not None
                assert reached is not None
                assert above < reached, f"{name} imports {imported}, which does not stand below it"


def test_no_import_circle():
    # A package's __init__ only offers what its files hold: the circles that count are those of files.
    graph = {name: {each for each in IMPORTS[name] if each in FILES and each not in PACKAGES} for name in FILES}
    for name in graph:
        graph[name] |= {
            file
            for package in IMPORTS[name] & PACKAGES - {ROOT}
            if not name.startswith(f"{package}.") and name != package
            for file in FILES
            if folder_of(file) == package and file != package
        }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", FILES)
def test_other_folders_are_imported_by_their_public_names(name):
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module not in FILES or node.module == ROOT:
            continue
        imported = node.module
        if imported in PACKAGES:
            public = public_names(imported)
            modules = {file for file in FILES if folder_of(file) == imported}
            names = [alias.name for alias in node.names if f"{imported}.{alias.name}" not in modules]
            assert set(names) <= public, f"{name}: {set(names) - public} is not in the __all__ of {imported}"
        elif not f"{name}.".startswith(f"{(folder := folder_of(imported))}."):
            pytest.fail(f"{name} imports from {imported}: take the name from {folder}")
        assert not any(alias.name.startswith("_") and alias.name != "__version__" for alias in node.names), name


# Every public file of runs/ is a command, which trainer.py names.
LISTED = sorted(PACKAGES - {ROOT, f"{ROOT}.runs"})


@pytest.mark.parametrize("name", LISTED)
def test_modules_that_offer_nothing_are_marked_as_private(name):
    for module in (file for file in FILES if folder_of(file) == name and file != name):
        is_private = module.rpartition(".")[2].startswith("_")
        assert is_private == (module not in IMPORTS[name]), f"{module} offers nothing in {name}: mark it with '_'"


def test_public_files_of_runs_are_the_commands_of_the_trainer():
    commands = {file.rpartition(".")[2] for file in FILES if folder_of(file) == f"{ROOT}.runs"} - {"runs"}
    assert {command for command in commands if not command.startswith("_")} == set(COMMANDS)
    assert all(callable(getattr(Trainer, command)) for command in COMMANDS)


@pytest.mark.parametrize("name", LISTED)
def test_every_folder_says_what_it_is_and_lists_its_public_names(name):
    assert ast.get_docstring(ast.parse(FILES[name].read_text())), f"{name} has no docstring"
    assert public_names(name), f"{name} has no __all__"


def public_names(package: str) -> set[str]:
    for node in ast.parse(FILES[package].read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize(
    ("room", "stranger"),
    [("features", "lightning"), ("networks", "lightning"), ("io", "lightning"), ("protocols", "lightning")],
)
def test_plain_rooms_know_nothing_of_lightning(room, stranger):
    for name, file in FILES.items():
        if name.startswith(f"{ROOT}.{room}"):
            for node in ast.walk(ast.parse(file.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert stranger not in {module.partition(".")[0] for module in modules}, f"{name} imports {stranger}"
