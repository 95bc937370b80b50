"""Runs the Dockerfile's steps for the target cpu in an empty folder, and its entry point as a container would.

The steps are read from the Dockerfile; its paths are moved into the folder. What needs an engine is not done: the base
image is this machine's Python, and users are not added. The entry point runs as the image's user, without capabilities,
on a root file system that is mounted read-only but for /tmp.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.containers import dockerfile

TARGET = "cpu"
READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 11
UNWANTED = ("build", "hatchling", "pip", "pytest", "tests", "torch", "training", "uv")


class Room:
    """A folder that stands for the root of the image."""

    def __init__(self, root: Path) -> None:
        """``root`` is empty. Its Python is bound there, since the image's user may not get to this machine's own."""
        self.root = root
        root.chmod(0o755)
        python = self.folder("python")
        run("mount", "--bind", sys.base_prefix, str(python))
        run("mount", "--options", "remount,bind,ro", str(python))
        # A Python that is moved finds its own library so, and not another of this machine.
        self.environment = {"LD_LIBRARY_PATH": str(python / "lib")}
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        run(str(python / "bin" / name), "-m", "venv", str(root / "tools"), **self.environment)

    def folder(self, name: str) -> Path:
        """A folder in it."""
        made = self.root / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def moved(self, text: str) -> str:
        """A step with its paths in the room in place of those in the image."""
        return re.sub(r"(?<![\w./])/(?=(?:opt|src|dist|var)\b)", f"{self.root}/", text)

    def build(self, stages: dict[str, dockerfile.Stage]) -> None:
        """Run the steps of every stage that another copies from. They share one tree, as their paths differ."""
        here = self.folder("src")
        wanted = dockerfile.needed(stages, TARGET)
        copied = {copy.stage for stage in wanted for copy in stage.copies}
        roots = {part.name for name in copied if name for part in dockerfile.lineage(stages, name)}
        path = f"{self.root / 'tools' / 'bin'}:{os.environ['PATH']}"
        for stage in wanted:
            for copy in stage.copies:
                self._copy(copy, here)
            for step in stage.having("RUN") if stage.name in roots else ():
                print(f"[{stage.name}] {step.text}", flush=True)
                run("sh", "-euc", self.moved(step.text), cwd=here, **os.environ | self.environment | {"PATH": path})
        for leftover in ("src", "dist", "tools"):
            shutil.rmtree(self.root / leftover)

    def _copy(self, copy: dockerfile.Copy, here: Path) -> None:
        if copy.stage is not None:
            assert [self.moved(source) for source in copy.sources] == [self.moved(copy.destination)]
            assert Path(self.moved(copy.destination)).exists(), copy
            return
        for source in copy.sources:
            name = Path(source).name
            into = here / copy.destination / name if copy.destination.endswith("/") else here / copy.destination
            into.parent.mkdir(parents=True, exist_ok=True)
            if Path(source).is_dir():
                shutil.copytree(source, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, into)

    def start(
        self, command: list[str], user: str, *, quiet: bool = False, **environment: str
    ) -> "subprocess.Popen[bytes]":
        """Start a command as in a container: as ``user``, without capabilities, on a read-only root but for /tmp."""
        temporary = self.folder("tmp")
        temporary.chmod(0o1777)
        uid, gid = user.split(":")
        drop = f"setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --bounding-set=-all"
        script = f'mount --bind "{temporary}" /tmp; mount -o remount,bind,ro /; cd /; exec {drop} "$@"'
        shell = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]
        variables = environment | self.environment | {"PATH": f"{self.root}/opt/timeconv/bin:/usr/bin:/bin"}
        errors = subprocess.DEVNULL if quiet else None
        return subprocess.Popen([*shell, *command], env=variables, stderr=errors)  # noqa: S603 - of the Dockerfile


def run(*command: str, cwd: Path | None = None, **environment: str) -> None:
    """Run a command, and fail if it does."""
    subprocess.run(command, cwd=cwd, env=environment or None, check=True)  # noqa: S603 - of the Dockerfile


def main(folder: str) -> int:
    """The exit status for a room in ``folder``."""
    stages = dockerfile.read(Path("Dockerfile").read_text(encoding="utf-8"))
    room = Room(Path(folder))
    room.build(stages)
    packages = next((room.root / "opt/timeconv/lib").glob("python3.*/site-packages"))
    unwanted = [name for name in UNWANTED if (packages / name).exists()]
    assert not unwanted, f"in the image, and not for it: {unwanted}"

    image = dockerfile.environment(stages, TARGET)
    user = dockerfile.last(stages, TARGET, "USER").text
    entry = dockerfile.last(stages, TARGET, "ENTRYPOINT").words
    probe = dockerfile.last(stages, TARGET, "HEALTHCHECK").words
    try_to_write = [
        "sh",
        "-c",
        f"! touch {packages}/x 2>/dev/null && ! touch /x 2>/dev/null && touch /tmp/x && rm /tmp/x",
    ]
    assert room.start(try_to_write, user).wait() == 0, "the tree can be written to"
    refused = room.start(entry, user, **image).wait()
    assert refused == 1, f"without keys the image ends with {refused}, not 1"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = {"TIMECONV_HOST": "127.0.0.1", "TIMECONV_PORT": port}
    service = room.start(entry, user, **image | given)
    try:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while room.start(probe, user, quiet=True, **image | given).wait() != 0:
            assert service.poll() is None, f"the service ended with {service.returncode}"
            assert time.monotonic() < deadline_s, "the service is not healthy"
        status = Path(f"/proc/{service.pid}/status").read_text(encoding="utf-8")
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
        assert re.search(rf"^Uid:\t{user.split(':')[0]}\t", status, re.MULTILINE), status
        service.send_signal(signal.SIGTERM)
        stopped = service.wait(STOP_TIMEOUT_S)
    finally:
        service.kill()
        service.wait()
    assert stopped == 0, f"SIGTERM ends the service with {stopped}"
    left = [str(path) for path in (room.root / "tmp").rglob("*")]
    assert not left, f"written to /tmp: {left}"
    print(f"The steps of {TARGET} run; as user {user} on a read-only root the service is healthy, and stops with 0")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
