"""The errors a user of Stagewise can meet, and the exit code each gives a command."""

from __future__ import annotations


class StagewiseError(Exception):
    """Something is wrong with the input; the message says what, where, and what to do next.

    Commands print the message alone (no traceback) and leave with `exit_code`.

    Example:
        >>> StagewiseError("scores.csv: empty file").exit_code
        1
    """

    exit_code = 1


class UsageError(StagewiseError):
    """The call itself is wrong: an unknown option value, a stage written backwards."""

    exit_code = 2


class BadScores(StagewiseError):
    """Rows of a score table break the format; `problems` lists every one of them.

    Attributes:
        problems: frame with the columns `row`, `column`, `value`, `problem`, `where`.
    """

    def __init__(self, message: str, problems) -> None:
        super().__init__(message)
        self.problems = problems

    def __reduce__(self):
        # Exceptions are pickled with `args` alone; a worker process has to send the problems too.
        return type(self), (self.args[0], self.problems)


class UnknownFormat(StagewiseError):
    """No reader recognises a file."""


class OutOfDate(StagewiseError):
    """A generated file no longer follows from its inputs (`--check`)."""

    exit_code = 3
