"""Where a figure comes from: the commit of the code, the day, the machine."""

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

CODE = Path(__file__).resolve().parent.parent
CPU_INFO = Path("/proc/cpuinfo")


def commit() -> str | None:
    """Name the commit of the code at work, with `-dirty` where files differ from it.

    None where there is no history (an unpacked archive), or no git.
    """
    if shutil.which("git") is None or not (CODE / ".git").exists():
        return None
    asked = ["git", "-C", str(CODE), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - constant arguments
    return done.stdout.strip() or None


def short(commit: str | None) -> str:
    """A commit as tables name it: ten digits, and `-dirty` if it has that."""
    digits, dash, dirty = (commit or "unknown").partition("-")
    return digits[:10] + dash + dirty


def today() -> str:
    """The date in UTC, e.g. 2026-11-23."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def processor() -> str:
    """Name the processor as far as the system tells."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def made_by(command: str) -> dict[str, str | None]:
    """What a file of results says of its own making."""
    return {"command": command, "commit": commit(), "date": today(), "processor": processor()}
