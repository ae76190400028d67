"""Turns what jsonargparse says of a wrong command line or config file, many lines, into one with the closest name."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jsonargparse

import fvlightning
from fvlightning.errors import InputError, did_you_mean


class UsageError(InputError):
    """The command line or the config file cannot be understood."""


def explain(message: str, options: Iterable[str]) -> str:
    """Return jsonargparse's `message` as one line that names what is wrong and the closest valid name.

    Args:
        message: The text of the `argparse.ArgumentError`.
        options: The options of the subcommand, ``trainer.max_epochs`` for ``--trainer.max_epochs``.
    """
    options = list(options)
    for pattern, tell in _CASES:
        # The innermost of nested classes is the last one that jsonargparse names.
        if found := list(re.finditer(pattern, message)):
            return tell(found[-1], message, options)
    return _shortened(message)


def _unknown_option(match: re.Match[str], message: str, options: list[str]) -> str:
    key = match["key"].split("=")[0]
    if "unrecognized arguments" not in message:
        kind = "config key "
    elif key.startswith("-"):
        kind = "option "
    else:
        return f"unexpected argument '{key}': an option starts with '--'"
    name = key.lstrip("-")
    dashes = "--" if key.startswith("-") else ""
    # 'modell.class_path': only the group is misspelt.
    groups = {option.split(".")[0] for option in options}
    suggestion = did_you_mean(name, options) or did_you_mean(name.split(".")[0], groups)
    return f"no {kind}'{key}'." + suggestion.replace(" '", f" '{dashes}")


def _misplaced_option(match: re.Match[str], message: str, options: list[str]) -> str:
    return f"'{match['key']}' is an option of a subcommand: put it, or the --config that has it, after the subcommand"


def _unknown_parameter(match: re.Match[str], message: str, options: list[str]) -> str:
    key, class_path = match["key"].split(".")[0], match["path"]
    parameters = _parameters(class_path)
    valid = ", ".join(parameters) or "none"
    return f"{class_path} has no parameter '{key}'; parameters: {valid}.{did_you_mean(key, [*parameters, 'init_args'])}"


def _unknown_class(match: re.Match[str], message: str, options: list[str]) -> str:
    module, name = match["module"], match["name"]
    suggestion = did_you_mean(name, _public_names(module)) or did_you_mean(name, _submodules(module))
    return f"cannot import '{match['path']}': no '{name}' in '{module}'.{suggestion}"


def _unknown_module(match: re.Match[str], message: str, options: list[str]) -> str:
    parent, _, name = match["module"].rpartition(".")
    suggestion = did_you_mean(name, _submodules(parent))
    return f"cannot import '{match['path']}': no module '{match['module']}'.{suggestion}"


def _unknown_short_name(match: re.Match[str], message: str, options: list[str]) -> str:
    name = match["name"]
    names = {*fvlightning.__all__, *_public_names("lightning.pytorch.callbacks")}
    names |= set(_public_names("lightning.pytorch.loggers"))
    return f"no class '{name}'; give its full path, package.module.Class.{did_you_mean(name, names)}"


def _wrong_class(match: re.Match[str], message: str, options: list[str]) -> str:
    given = re.search(r"Given value: (?:.*'class_path': ')?([\w.]+)", message)
    return f"'{given[1] if given else '?'}' is not a subclass of {match['base']}"


def _unknown_subcommand(match: re.Match[str], message: str, options: list[str]) -> str:
    valid = re.findall(r"'(\w+)'", match["valid"]) or match["valid"].split(", ")
    suggestion = did_you_mean(match["key"], valid)
    return f"no subcommand '{match['key']}'; first comes one of: {', '.join(valid)}.{suggestion}"


def _no_subcommand(match: re.Match[str], message: str, options: list[str]) -> str:
    return f"no subcommand given; subcommands: {match['valid'].replace(',', ', ')}. See --help"


def _missing(match: re.Match[str], message: str, options: list[str]) -> str:
    subcommand, _, key = match["key"].partition(".")
    if not key:  # a key inside of a list of settings
        return f"a setting '{subcommand}' is missing"
    return f"{subcommand} needs --{key}, or a --config file that has '{key}'"


def _no_file(match: re.Match[str], message: str, options: list[str]) -> str:
    path = Path(match["path"])
    names = [file.name for file in path.parent.glob("*.yaml")]
    return f"no config file '{path}'.{did_you_mean(path.name, names)}"


_Teller = Callable[[re.Match[str], str, list[str]], str]
_CLASS = r"Problem with given class_path '(?P<path>[^']+)':\s+"
# The first that is found wins: what is wrong inside a class before what is wrong around it.
_CASES: list[tuple[str, _Teller]] = [
    (_CLASS + r"Option '(?P<key>[^']+)' is not accepted", _unknown_parameter),
    (_CLASS + r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'", _unknown_class),
    (_CLASS + r"No module named '(?P<module>[^']+)'", _unknown_module),
    (r"Expected a dot import path string: (?P<name>\w+)", _unknown_short_name),
    (r"Import path does not correspond to a subclass of (?P<base>\w+)", _wrong_class),
    (r"Option '(?P<key>[^']+)' is not accepted before subcommand", _misplaced_option),
    (r"does not accept option '(?P<key>[^']+)'", _unknown_option),
    (r"Option '(?P<key>[^']+)' is not accepted", _unknown_option),
    (r"unrecognized arguments: (?:[^-]\S* )*(?P<key>\S+)", _unknown_option),
    (r"invalid choice: '(?P<key>[^']+)' \(choose from (?P<valid>[^)]+)\)", _unknown_subcommand),
    (r"to be one of \{(?P<valid>[^}]+)\}, but it was not provided", _no_subcommand),
    (r"File does not exist: '?(?P<path>[^']+)'?", _no_file),
    (r"the following arguments are required: (?P<key>[\w.]+)", _missing),
]

# Lines that repeat what others say: which members of a union were tried.
_NOISE = re.compile(
    r"Does not validate against any of the Union subtypes|Subtypes: |Errors:|Given value type: |Subclass types expect|"
    r"a class path \(str\)|a dict |Expected a <class 'NoneType'>|Expected a path but .* not accessible or invalid|"
    r"Given value: .*class_path|Given value: NestedArg"
)


def _shortened(message: str) -> str:
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    text = " ".join(line for line in lines if line and not _NOISE.match(line))
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"Problem with given class_path '([^']+)':", r"\1:", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"Expected an? ", "expected ", text)
    return re.sub(r"\.? (?:Got|Given) value: ", ", got ", text)


def _parameters(class_path: str) -> list[str]:
    """Return the names of the parameters of a class, those that it passes on to its bases included."""
    module, _, name = class_path.rpartition(".")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    added: list[str] = parser.add_class_arguments(getattr(importlib.import_module(module), name), fail_untyped=False)
    return added


def _public_names(module: str) -> list[str]:
    contents = importlib.import_module(module)
    return getattr(contents, "__all__", None) or [name for name in vars(contents) if not name.startswith("_")]


def _submodules(package: str) -> Iterator[str]:
    """Yield the names of the modules in `package`, or of all top-level modules if it is empty."""
    try:
        path = importlib.import_module(package).__path__ if package else None
    except (ImportError, AttributeError):  # the parent is misspelt as well, or is a module without children
        return
    yield from (module.name for module in pkgutil.iter_modules(path))
