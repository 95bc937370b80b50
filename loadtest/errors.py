"""What can be wrong with a run, in one tree; each message is one line, and the exit status of the command is 2.

LoadError
├── BadLoad         a load that cannot be meant
└── CannotGenerate  the load could not be put on the service, so nothing was measured
"""


class LoadError(Exception):
    """Base of all errors of the load generator."""


class BadLoad(LoadError):
    """The description of a load, or another argument, cannot be meant."""


class CannotGenerate(LoadError):
    """A server did not start, a session could not be opened, or a process of the generator died."""
