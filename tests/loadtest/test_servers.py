"""Servers as processes of their own."""

import os
import subprocess
import sys

import pytest

from loadtest.errors import BadLoad, CannotGenerate
from loadtest.servers import started, watched


def test_a_server_that_does_not_start_says_why() -> None:
    """The error carries the last line that the server said."""
    with pytest.raises(CannotGenerate, match=r"no\.such\.module"), started("no.such.module"):
        pass


def test_a_process_is_watched_from_the_beginning_of_the_block() -> None:
    """There is a sample before anything happens in the block, with CPU time and memory."""
    with watched(os.getpid()) as samples:
        assert samples[0].cpu_s > 0
        assert samples[0].rss_bytes > 1_000_000


def test_without_a_process_there_are_no_samples() -> None:
    """A service on another machine has no process here."""
    with watched(None) as samples:
        assert samples == []


def test_a_process_that_is_not_there() -> None:
    """A process that has ended cannot be watched, and that is said before the load."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with pytest.raises(BadLoad, match=str(ended.pid)), watched(ended.pid):
        pass
