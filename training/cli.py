"""How a command of the offline half ends when its arguments or its data are wrong: one line, exit status 2."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Run a command; what it says is wrong is told without a traceback."""
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def positive(text: str) -> int:
    """A whole number of at least 1, for an argument.

    Raises:
        ValueError: it is none.
    """
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number
