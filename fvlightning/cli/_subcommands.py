"""What the program says about its subcommands, before anything heavy is imported."""

from collections.abc import Sequence

from fvlightning.errors import did_you_mean

PROGRAM = "fvlightning"
# What each subcommand does; the docstrings of those of `fvlightning.runs` begin with it.
SUBCOMMANDS = {
    "fit": "Train a model.",
    "validate": "Measure a model on the validation data.",
    "test": "Measure a model on the test data.",
    "predict": "Run a model on data.",
    "visualize": "Make pictures of what units look for.",
    "examples": "Find the real images that excite units most and least.",
    "inspect": "Show what a model makes of images.",
    "weights": "Compare the weights of a first layer, as images, with the pictures of its units.",
    "unit_sheet": "Put all that is known of a unit on one sheet.",
    "microscope": "Make one page that shows every unit of a model.",
    "compare": "Make pictures of the same units in several spaces.",
    "cross_evaluate": "Let models judge each other's pictures.",
    "magnitude": "Measure the frequencies and the colours of images.",
}
# An example of each that is Lightning's; the others have theirs in their docstrings.
EXAMPLES = {
    "fit": "fit --config configs/quickstart.yaml",
    "validate": "validate --config configs/quickstart.yaml --ckpt_path last.ckpt",
    "test": "test --config configs/quickstart.yaml --ckpt_path last.ckpt",
    "predict": "predict --config configs/quickstart.yaml --ckpt_path last.ckpt",
}
_BEFORE_SUBCOMMAND = ("-h", "--help", "--version", "-c", "--config", "--print_config")
ARGUMENTS = "[--config FILE] [--OPTION VALUE] ..."


def overview() -> str:
    """Return the help of the whole program."""
    lines = "\n".join(f"  {name:<16}{purpose}" for name, purpose in SUBCOMMANDS.items())
    return f"""usage: {PROGRAM} SUBCOMMAND {ARGUMENTS}

Train vision models and see what their units look for.

    {PROGRAM} {EXAMPLES["fit"]}

subcommands:
{lines}

{PROGRAM} SUBCOMMAND --help lists the options of a subcommand, {PROGRAM} --version prints the version."""


def problem_with(arguments: Sequence[str]) -> str | None:
    """Return the line about a subcommand that is missing or misspelt, or None."""
    valid = f"subcommands: {', '.join(SUBCOMMANDS)}"
    if not arguments:
        return f"no subcommand given; {valid}; see --help"
    name = arguments[0]
    if name in SUBCOMMANDS:
        return None
    if name.startswith("-"):
        subcommand = next((argument for argument in arguments if argument in SUBCOMMANDS), None)
        if subcommand is None or name.partition("=")[0] in _BEFORE_SUBCOMMAND:
            return None
        return f"'{name}' is an option of a subcommand: put it after '{subcommand}'"
    return f"no subcommand '{name}'; {valid}{did_you_mean(name, SUBCOMMANDS)}"
