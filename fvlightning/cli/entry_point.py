"""The command line: ``fvlightning SUBCOMMAND ...``, the same as ``python -m fvlightning SUBCOMMAND ...``.

Nothing heavy is imported before `main` has answered ``--help``, ``--version`` and a misspelt subcommand. The
subcommands are in `fvlightning.runs`, their options in `fvlightning.cli.vision_cli`.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fvlightning import __version__
from fvlightning.cli._subcommands import PROGRAM, overview, problem_with
from fvlightning.errors import InputError

if TYPE_CHECKING:
    from fvlightning.trainer import Trainer

EXIT_FAILURE = 1
EXIT_USAGE = 2
# The shells' convention for a process that a signal has ended: 128 + the signal's number.
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


def main(args: Sequence[str] | None = None, trainer_class: "type[Trainer] | None" = None) -> int:
    """Run one subcommand and return the exit status.

    Bad input ends in one line on stderr. Any other exception is a defect and passes through with its traceback.

    Args:
        args: The arguments behind the program's name. Default: ``sys.argv[1:]``.
        trainer_class: A trainer with commands of your own, a subclass of `fvlightning.trainer.Trainer`.

    Returns:
        0 for success, 2 for a command line or config file that cannot be understood, 1 for any other bad input,
        130 after Ctrl+C, 143 after SIGTERM.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    if args is None and not sys.flags.safe_path and os.getcwd() not in sys.path:
        # As `python -m fvlightning` does, so that the installed command finds a model in the working directory.
        sys.path.insert(0, os.getcwd())
    if arguments[:1] == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    if trainer_class is None:
        if arguments in (["--help"], ["-h"]):
            print(overview())
            return 0
        if problem := problem_with(arguments):
            print(f"error: {problem}", file=sys.stderr)
            return EXIT_USAGE
    try:
        # These imports take seconds: inside the try, so that Ctrl+C ends them quietly.
        from fvlightning.cli.vision_cli import VisionCLI

        VisionCLI(arguments, trainer_class)
    except KeyboardInterrupt:
        return EXIT_SIGINT
    except SystemExit as exit_request:
        return _status(exit_request)
    except Exception as error:
        message = _one_line(error)
        if message is None:
            raise
        from fvlightning.cli._usage import UsageError

        print(f"error: {message}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE
    return 0


def _status(exit_request: SystemExit) -> int:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    if isinstance(exit_request, SIGTERMException):  # Lightning raises it without a code, which would be a success
        return EXIT_SIGTERM
    if isinstance(exit_request.__context__, KeyboardInterrupt):  # Lightning turns Ctrl+C into sys.exit(1)
        return EXIT_SIGINT
    if exit_request.code is None or isinstance(exit_request.code, int):
        return exit_request.code or 0
    print(exit_request.code, file=sys.stderr)
    return EXIT_FAILURE


def _one_line(error: Exception) -> str | None:
    """Return the line that tells the user about `error`, or None for a defect."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    if isinstance(error, InputError | MisconfigurationException):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use '{error.filename}': {error.strerror}"
    return None
