"""What a user can cause to go wrong, as exceptions that carry a hint and an exit code.

Knows nothing about formatting: `tabom_cli.main` turns one of these into `Error:` and `Hint:` lines.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_READY = 3
EXIT_INTERRUPTED = 130


class TabomError(Exception):
    """A failure with one sentence for the user, an optional hint and an exit code.

    Args:
        message: What is wrong, where (file:line or recipe key), the value, what is allowed. May span
            several lines when several faults are shown together.
        hint: The next command or change that helps.
    """

    exit_code: int = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TabomError):
    """A command line that asks for something that does not exist or contradicts itself."""

    exit_code = EXIT_USAGE


class RecipeError(TabomError):
    """A recipe that cannot be read or holds wrong values."""

    exit_code = EXIT_USAGE


class DataError(TabomError):
    """A data file that is missing, malformed or does not fit the recipe."""


class ModelError(TabomError):
    """A checkpoint, adapter or tokenizer that is missing, damaged or does not fit."""


class RunError(TabomError):
    """A run that failed or was refused: full disk, non-finite loss, existing output."""


class EnvironmentNotReady(TabomError):
    """Something this machine lacks: a package, a GPU, the sandbox, the network."""

    exit_code = EXIT_NOT_READY


class Interrupted(TabomError):
    """The run was asked to stop and saved its state."""

    exit_code = EXIT_INTERRUPTED
