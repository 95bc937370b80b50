"""Command lines whose errors are one line."""

import argparse
from typing import NoReturn

from loadtest.errors import BadLoad


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all errors of the command are said."""

    def error(self, message: str) -> NoReturn:
        """Raise it.

        Raises:
            BadLoad: always.
        """
        raise BadLoad(message)
