"""Turns jsonargparse's long errors about a command line or config file into one line with the closest name."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jsonargparse

import fvlightning
from fvlightning.errors import InputError, did_you_mean

SHIPPED_CONFIGS = Path(fvlightning.__file__).parent / "configs"


class UsageError(InputError):
    """The command line or the config file cannot be understood."""


def explain(message: str, options: Iterable[str]) -> str:
    """Return jsonargparse's `message` as one line that names the mistake and the closest valid name.

    Args:
        message: The text of the `argparse.ArgumentError`.
        options: The options of the subcommand, ``trainer.max_epochs`` for ``--trainer.max_epochs``.
    """
    for pattern, explained in _CASES:
        # jsonargparse names the innermost of nested classes last.
        if matches := list(re.finditer(pattern, message)):
            return explained(matches[-1], list(options))
    return _shortened(message)


def _unknown_option(match: re.Match[str], options: list[str]) -> str:
    key = match["key"].split("=")[0]
    dashes = "--" if key.startswith("-") else ""
    kind = "option "
    if "unrecognized arguments" not in match.string:
        kind = "config key "
    elif not dashes:
        return f"unexpected argument '{key}': an option starts with '--'"
    name = key.lstrip("-")
    # 'modell.class_path': only the group is misspelt.
    groups = {option.split(".")[0] for option in options}
    suggestion = did_you_mean(name, options) or did_you_mean(name.split(".")[0], groups)
    return f"no {kind}'{key}'" + suggestion.replace(" '", f" '{dashes}")


def _misplaced_option(match: re.Match[str], options: list[str]) -> str:
    return f"'{match['key']}' is an option of a subcommand: put it, or the --config that has it, after the subcommand"


def _unknown_parameter(match: re.Match[str], options: list[str]) -> str:
    key, class_path = match["key"].split(".")[0], match["path"]
    if key == "class_path":
        return f"{_owner(match.string)}: parameters beside 'class_path' must be inside 'init_args'"
    if (part := _BASES.get(class_path)) and not did_you_mean(key, ["init_args"]):
        return f"'{key}' is a parameter of the {part}, whose class is missing: give it as well, package.module.Class"
    parameters = _parameters(class_path)
    valid = ", ".join(parameters) or "none"
    return f"{class_path} has no parameter '{key}'; parameters: {valid}{did_you_mean(key, [*parameters, 'init_args'])}"


def _wrong_callback(match: re.Match[str], options: list[str]) -> str:
    if re.search(_CLASS, match.string):  # the callback takes the parameter, with another value
        return _shortened(match.string)
    key, owner = match["key"], _owner(match.string)
    return f"'{key}' is a parameter of a callback, whose class is missing: give --{owner}+=CLASS --{owner}.{key} VALUE"


def _unknown_class(match: re.Match[str], options: list[str]) -> str:
    module, name = match["module"], match["name"]
    suggestion = did_you_mean(name, _public_names(module)) or did_you_mean(name, _submodules(module))
    return f"cannot import '{match['path']}': no '{name}' in '{module}'{suggestion}"


def _unknown_module(match: re.Match[str], options: list[str]) -> str:
    if Path(match["path"]).suffix in (".yaml", ".yml", ".json"):
        return f"'{match['path']}' is not a class path; give package.module.Class, or the file by --config"
    parent, _, name = match["module"].rpartition(".")
    suggestion = did_you_mean(name, _submodules(parent))
    return f"cannot import '{match['path']}': no module '{match['module']}'{suggestion}"


def _unknown_short_name(match: re.Match[str], options: list[str]) -> str:
    name = match["name"]
    if not name.isidentifier():
        return f"'{name}' is not a class path; give package.module.Class"
    modules = ("fvlightning", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")
    names = {public for module in modules for public in _public_names(module)}
    return f"no class '{name}'; give its full path, package.module.Class{did_you_mean(name, names)}"


def _wrong_class(match: re.Match[str], options: list[str]) -> str:
    value = re.search(r"Given value: (?:.*'class_path': ')?([\w.]+)", match.string)
    return f"'{match['path'] or (value[1] if value else '?')}' is not a subclass of {match['base']}"


def _unknown_subcommand(match: re.Match[str], options: list[str]) -> str:
    valid = re.findall(r"'(\w+)'", match["valid"]) or match["valid"].split(", ")
    suggestion = did_you_mean(match["key"], valid)
    return f"no subcommand '{match['key']}'; subcommands: {', '.join(valid)}{suggestion}"


def _no_subcommand(match: re.Match[str], options: list[str]) -> str:
    return f"no subcommand given; subcommands: {match['valid'].replace(',', ', ')}; see --help"


def _missing(match: re.Match[str], options: list[str]) -> str:
    subcommand, _, key = match["key"].partition(".")
    if not key:  # a parameter of a class
        before, after = match.string[: match.start()], match.string[match.end() :]
        owner = re.search(_CLASS + "$", before) or re.search(
            r"Given value: Namespace\(class_path='(?P<path>[^']+)'", after
        )
        return f"{owner['path']} needs '{subcommand}'" if owner else f"a setting '{subcommand}' is missing"
    return f"{subcommand} needs --{key}, or a --config file that has '{key}'"


def _no_file(match: re.Match[str], options: list[str]) -> str:
    path = Path(match["path"])
    names = [file.name for folder in (path.parent, SHIPPED_CONFIGS) for file in folder.glob("*.yaml")]
    return f"no config file '{path}'{did_you_mean(path.name, dict.fromkeys(names))}"


def _not_a_number(match: re.Match[str], options: list[str]) -> str:
    return _shortened(match.string)


def _not_settings(match: re.Match[str], options: list[str]) -> str:
    key, value = match["key"], match["value"]
    return f"--{key} {value}: no such file; give a config file, or the settings one by one, --{key}.NAME VALUE"


def _not_a_config(match: re.Match[str], options: list[str]) -> str:
    return f"no config file '{match['value']}'"


# The classes that jsonargparse assumes if none is given, and what they are for.
_BASES = {
    "lightning.LightningModule": "model",
    "lightning.LightningDataModule": "data",
    "torch.optim.Optimizer": "optimizer",
    "torch.optim.lr_scheduler.LRScheduler": "scheduler",
    "typing.Union": "scheduler",  # of two base classes
}
# jsonargparse also tries the base class of callbacks, which has no parameters.
_CLASS = r"Problem with given class_path '(?!lightning\.Callback')(?P<path>[^']+)':\s+"
_CALLABLE = "expects a function or a callable class: "
# The first match wins: mistakes inside a class come before those around it.
_CASES: list[tuple[str, Callable[[re.Match[str], list[str]], str]]] = [
    (_CLASS + r"Option '(?P<key>[^']+)' is not accepted", _unknown_parameter),
    (_CLASS + r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'", _unknown_class),
    (_CLASS + r"No module named '(?P<module>[^']+)'", _unknown_module),
    (
        _CALLABLE + r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'\. Got value: (?P<path>.+)",
        _unknown_class,
    ),
    (_CALLABLE + r"No module named '(?P<module>[^']+)'\. Got value: (?P<path>.+)", _unknown_module),
    (_CALLABLE + r"Expected '(?P<path>[^']+)' to be a subclass of <class '(?P<base>[^']+)'>", _wrong_class),
    (
        _CALLABLE + r"Option '(?P<key>[^']+)' is not accepted\. Got value: Namespace\(class_path='(?P<path>[^']+)'",
        _unknown_parameter,
    ),
    # A union of a number or numbers and a tensor, such as a learning rate.
    (r"Expected a <class '(?:int|float|collections\.abc\.Sequence)'>\s+- Expected a dot import", _not_a_number),
    (r"Expected a dot import path string: (?P<name>.*)", _unknown_short_name),
    (r"Import path (?:(?P<path>[\w.]+) )?does not correspond to a subclass of (?P<base>\w+)", _wrong_class),
    (r"class_path 'lightning\.Callback':\s+Option '(?P<key>[^']+)' is not accepted", _wrong_callback),
    (r"Option '(?P<key>[^']+)' is not accepted before subcommand", _misplaced_option),
    (r"does not accept option '(?P<key>[^']+)'", _unknown_option),
    (r"Option '(?P<key>[^']+)' is not accepted", _unknown_option),
    (r"unrecognized arguments: (?:[^-]\S* )*(?P<key>\S*)", _unknown_option),
    (r"invalid choice: '(?P<key>[^']+)' \(choose from (?P<valid>[^)]+)\)", _unknown_subcommand),
    (r"to be one of \{(?P<valid>[^}]+)\}, but it was not provided", _no_subcommand),
    (r"Parser key \"(?P<key>[^\"]+)\":\s+Unable to load config '(?P<value>[^']+)'", _not_settings),
    (r"Unexpected config: (?P<value>.*)", _not_a_config),
    (r"File does not exist: '?(?P<path>[^']+)'?", _no_file),
    (r"the following arguments are required: (?P<key>[\w.]+)", _missing),
]

# Lines that only list the members of a union that were tried.
_NOISE = re.compile(
    r"Does not validate against any of the Union subtypes|Subtypes: |Errors:|Given value type: |Subclass types expect|"
    r"a class path \(str\)|a dict |Expected a <class 'NoneType'>|Expected a path but .* not accessible or invalid|"
    r"Given value: .*class_path|Given value: NestedArg|Expected a dot import path string|"
    r"Problem with given class_path 'lightning\.Callback'|Option '.*' is not accepted|Not a valid subclass of Tensor"
)


def _shortened(message: str) -> str:
    lines = [
        re.sub(r"\.* Got value: Namespace\(.*", "", line.strip().removeprefix("- ")) for line in message.splitlines()
    ]
    text = " ".join(line for line in lines if not _NOISE.match(line))
    text = re.sub(rf"Type [\w.]*Callable\[\S.*?\] {_CALLABLE}", "", text)
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"Problem with given class_path '([^']+)':", r"\1:", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"typing\.Literal\[([^\]]*)\]", r"one of \1", text)
    text = " ".join(re.sub(r"Expected an? ", "expected ", text).split())
    text = re.sub(r"(?<=[^:]) expected ", " or ", text)  # the members of a union
    text = re.sub(r"expected \w+ (?=\S+\.[A-Z]\w*: )", "", text)  # a class that was tried says what is wrong
    text = re.sub(r"(Got value: .*?) Given value: ", r"\1 in ", text)
    text = re.sub(r"'(\w+)' object has no attribute 'keys'", r"init_args must be parameters by name, not \1", text)
    text = re.sub(r"argument of type '(\w+)' is not iterable", r"class_path must be package.module.Class, not \1", text)
    text = re.sub(r"\.? (?:Got|Given) value:$", ", got ''", text)
    return re.sub(r"\.? (?:Got|Given) value: ", ", got ", text)


def _owner(message: str) -> str:
    """Return the outermost key that a message is about, such as ``data`` or ``trainer.callbacks``."""
    owner = re.search(r'Parser key "([^"]+)"', message)
    return owner[1] if owner else "a class"


def _parameters(class_path: str) -> list[str]:
    """Return the names of the parameters of a class, including those that it passes on to its bases."""
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
