"""Command lines of this package: how they are read, and what their errors and exit statuses are."""

import argparse
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from loadtest.errors import BadLoad, LoadError

_UNUSABLE = 2
_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all errors of the command are said."""

    def __init__(self, name: str, description: str | None) -> None:
        """``name``: the module's, in this package; ``description``: shown as it is."""
        super().__init__(
            prog=f"python -m loadtest.{name}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise it.

        Raises:
            BadLoad: always.
        """
        raise BadLoad(message)


def exit_status(name: str, run: Callable[[], int], unusable: tuple[type[Exception], ...] = (LoadError,)) -> int:
    """What ``run`` returns; 2 with one line where it raises one of ``unusable``; 130 after Ctrl-C."""
    try:
        return run()
    except unusable as error:
        print(f"{name}: {error}", file=sys.stderr)
        return _UNUSABLE
    except KeyboardInterrupt:
        return _INTERRUPTED


def command(name: str) -> str:
    """The command that is running, for a shell."""
    return f"python -m loadtest.{name} {shlex.join(sys.argv[1:])}".strip()


def positive(text: str) -> float:
    """A number over 0 and not infinite."""
    return number(text, 0, sys.float_info.max, "a number over 0")


def number(text: str, over: float, most: float, meaning: str) -> float:
    """A number of which ``over < number <= most``.

    Raises:
        argparse.ArgumentTypeError: it is not ``meaning``.
    """
    with suppress(ValueError):
        if over < float(text) <= most:
            return float(text)
    raise argparse.ArgumentTypeError(f"not {meaning}: {text!r}")
