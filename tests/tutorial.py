"""Follows docs/tutorial.md to the letter, as a reader at a terminal: ``make tutorial``.

What is followed is the last commit: the document in it, and the clone that the document makes. There are as many shells
as the document names, each at a terminal of its own, in a new folder. The document's fences say what is to be done:

    ```sh first           typed into this shell; without a name into the one before. Every command has to succeed
    ```sh first stays     the same with a program that goes on; done once the output that follows is there
    ```text               what is then seen, compared with numbers masked; ``...`` stands for anything
    ```text first         the same of another shell; if its first line is ^C, Ctrl-C is pressed there
    ```python name.py     saved under this name, in the folder in which that shell is

and every address in angle brackets, as <http://127.0.0.1:8000>, is opened and has to be there. The reader puts their
own in the place of two words, as the document says: REPOSITORY, and 8000 if that port is taken.
"""

import argparse
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).parents[1]
DOCUMENT = "docs/tutorial.md"
PORT = 8000
"""The port in the document."""
STEP_TIMEOUT_S = 600.0
END_TIMEOUT_S = 5.0
PROMISED_S = 300.0

_STEP = re.compile(
    r"^```(?P<kind>\w+)(?P<words>[^\n]*)\n(?P<body>.*?)^```$|<(?P<address>https?://[^>\s]+)>", re.DOTALL | re.MULTILINE
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_END = re.compile(r"\n?\x01(\d+)\x02([^\x01]*)\x01\n")
# Typed behind a block: whether a command failed in it, and in which folder the shell now is.
_ASK_END = r"""printf '\n\001%d\002%s\001\n' "${failed:-0}" "$PWD"; failed="""
_INTERRUPT = "^C\n"


@dataclass(frozen=True)
class Step:
    """One thing that the reader does, or sees. ``line`` is where it stands in the document."""

    line: int
    kind: str
    words: tuple[str, ...]
    body: str


class NotAsWritten(Exception):
    """It did not go as the document says."""


def steps(document: str) -> Iterator[Step]:
    """The steps of a Markdown document, in order.

    Raises:
        ValueError: a fence is none of those that there are.
    """
    for found in _STEP.finditer(document):
        line = document[: found.start()].count("\n") + 1
        if found["address"]:
            yield Step(line, "open", (), found["address"])
            continue
        step = Step(line, found["kind"], tuple(found["words"].split()), found["body"])
        if step.kind not in {"sh", "text", "python"} or (step.kind == "python" and len(step.words) != 1):
            raise ValueError(f"{DOCUMENT}:{line}: nobody knows what to do with ```{found['kind']}{found['words']}")
        yield step


def put(document: str, own: Mapping[str, str]) -> str:
    """The document with the reader's own in the place of words."""
    for word, value in own.items():
        document = value.join(re.split(rf"\b{re.escape(word)}\b", document))
    return document


def on_screen(output: str) -> str:
    """What a terminal shows of an output: a carriage return goes back to the start of the line, and writes over it."""
    lines = []
    for line in _CONTROL.sub("", output).replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip(" "))
    return "\n".join(lines)


def agrees(expected: str, seen: str) -> bool:
    """Whether the same is seen: numbers may be others, space may be more or less, ``...`` is anything."""
    parts = _plain(expected).split("...")
    return re.fullmatch(".*".join(map(re.escape, parts)), _plain(seen), re.DOTALL) is not None


def _plain(text: str) -> str:
    lines = (" ".join(_NUMBER.sub("0", line).split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


class Shell:
    """A shell at a terminal of its own. ``folder`` is where it is."""

    def __init__(self, folder: Path, environment: Mapping[str, str], timeout_s: float = STEP_TIMEOUT_S) -> None:
        """Start it; ``timeout_s`` is for each step."""
        self.folder = folder
        self._timeout_s = timeout_s
        self._output = ""
        self._terminal, its_end = os.openpty()
        # Who leads a session and has no terminal gets the first that it opens, and with it Ctrl-C.
        start = 'exec bash --noprofile --norc --noediting -i <>"$0" >&0 2>&1'
        self._bash = subprocess.Popen(  # noqa: S603 - the reader's shell
            ["/bin/sh", "-c", start, os.ttyname(its_end)], cwd=folder, env=environment, start_new_session=True
        )
        self.type("PS1= PS2=; stty -echo; trap 'failed=$?' ERR\n")
        self.finish()
        os.close(its_end)

    def type(self, keys: str) -> None:
        """Type, without waiting for what comes of it."""
        os.write(self._terminal, keys.encode())

    def finish(self) -> tuple[str, int]:
        """Wait until what was typed is done; what is seen since the last time, and 0 or the status of what failed."""
        self.type(f"{_ASK_END}\n")
        deadline_s = time.monotonic() + self._timeout_s
        while (end := _END.search(on_screen(self._output))) is None:
            self._read(deadline_s)
        seen, self._output = on_screen(self._output)[: end.start()], ""
        self.folder = Path(end[2])
        return seen, int(end[1])

    def see(self, expected: str) -> None:
        """Wait until ``expected`` is seen, of a program that goes on.

        Raises:
            NotAsWritten: the program ends, or nothing of the kind comes in time.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while not agrees(expected, on_screen(self._output)):
            self._read(deadline_s)
        self._output = ""

    def _read(self, deadline_s: float) -> None:
        ready, _, _ = select.select([self._terminal], [], [], max(0, deadline_s - time.monotonic()))
        try:
            more = os.read(self._terminal, 1 << 16) if ready else b""
        except OSError:
            more = b""
        if not more:
            raise NotAsWritten(f"nothing more came after\n{on_screen(self._output)}")
        self._output += more.decode(errors="replace")

    def leave(self) -> list[str]:
        """Close the terminal; the programs that were still running in it, which are killed."""
        bash = self._bash.pid
        left = [process for process in psutil.process_iter() if _session(process.pid) == bash != process.pid]
        names = []
        for process in left:
            with suppress(psutil.NoSuchProcess):
                names.append(" ".join(process.cmdline()))
                process.kill()
        psutil.wait_procs(left, END_TIMEOUT_S)
        self._bash.send_signal(signal.SIGHUP)
        os.close(self._terminal)
        self._bash.wait()
        return names


def _session(pid: int) -> int | None:
    with suppress(ProcessLookupError, PermissionError):
        return os.getsid(pid)
    return None


class Reader:
    """Somebody who follows the document, in ``folder``."""

    def __init__(self, folder: Path, environment: Mapping[str, str], timeout_s: float = STEP_TIMEOUT_S) -> None:
        """Nothing is open yet; ``timeout_s`` is for each step."""
        self.folder = folder
        self.shells: dict[str, Shell] = {}
        self._environment = environment
        self._timeout_s = timeout_s
        self._shell = ""
        self._seen: str | None = None

    def follow(self, step: Step) -> None:
        """Do what a step says, or see what it shows.

        Raises:
            NotAsWritten: it went otherwise.
        """
        if step.kind == "open":
            with urlopen(step.body, timeout=30) as reply:  # noqa: S310 - of the document
                reply.read()
        elif step.kind == "python":
            (self.shells[self._shell].folder / step.words[0]).write_text(step.body)
        elif step.kind == "sh":
            self._type(step)
        else:
            self._look(step)

    def _type(self, step: Step) -> None:
        shell = self._at(step)
        shell.type(step.body)
        self._seen = None
        if "stays" not in step.words:
            self._seen, status = shell.finish()
            if status:
                raise NotAsWritten(f"exit status {status} after\n{self._seen}")

    def _look(self, step: Step) -> None:
        shell = self._at(step)
        if step.body.startswith(_INTERRUPT):
            shell.type("\x03")
            self._seen, _ = shell.finish()
        expected = step.body.removeprefix(_INTERRUPT)
        if self._seen is None:
            shell.see(expected)
        elif not agrees(expected, self._seen):
            raise NotAsWritten(f"what is seen is not what is written:\n{self._seen}")

    def _at(self, step: Step) -> Shell:
        self._shell = next((word for word in step.words if word != "stays"), self._shell)
        if self._shell not in self.shells:
            self.shells[self._shell] = Shell(self.folder, self._environment, self._timeout_s)
        return self.shells[self._shell]

    def leave(self) -> list[str]:
        """Close all shells; what was still running in them."""
        return [name for shell in self.shells.values() for name in shell.leave()]


def of_a_reader() -> dict[str, str]:
    """The environment without what this project, its make and its Python have put there."""
    ours = re.compile(r"TIMECONV_|PYTHON|VIRTUAL_ENV|MAKE|MFLAGS|PORT$")
    return {name: value for name, value in os.environ.items() if not ours.match(name)} | {"TERM": "dumb"}


def free_port() -> int:
    """The document's, if it is free."""
    for port in (PORT, 0):
        with socket.socket() as listening, suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", port))
            return int(listening.getsockname()[1])
    raise AssertionError("some port is always free")


def follow(document: str, own: Mapping[str, str]) -> None:
    """Follow a document in a new folder, and print how long each step took.

    Raises:
        NotAsWritten: a step went otherwise than written, or a program was left running.
    """
    with tempfile.TemporaryDirectory(prefix="timeconv-tutorial-") as folder:
        reader = Reader(Path(folder), of_a_reader())
        began_s = time.monotonic()
        try:
            for step in steps(put(document, own)):
                step_s = time.monotonic()
                try:
                    reader.follow(step)
                except (NotAsWritten, OSError) as error:
                    raise NotAsWritten(f"{DOCUMENT}:{step.line}: {error}\n--- written:\n{step.body}") from error
                first_line = step.body.partition("\n")[0]
                print(
                    f"{time.monotonic() - step_s:6.1f} s  {step.line:4}  {step.kind:6}  {first_line[:80]}", flush=True
                )
            total_s = time.monotonic() - began_s
        finally:
            left = reader.leave()
        if left:
            raise NotAsWritten(f"still running at the end: {left}")
    print(f"{total_s:6.1f} s in all, of the {PROMISED_S:.0f} s that are promised; what is read and typed is not in it")


def main() -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help=f"in the place of {PORT}; by default another only if that is taken")
    port = parser.parse_args().port or free_port()
    text = subprocess.run(  # noqa: S603 - ours
        ["git", "show", f"HEAD:{DOCUMENT}"],  # noqa: S607 - git, wherever it is
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    own = {"REPOSITORY": str(ROOT)} | ({} if port == PORT else {str(PORT): str(port)})
    print(f"{DOCUMENT} of the last commit, with {own}")
    # Programs heed Ctrl-C only if those who start them do, which who runs this in the background may have changed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        follow(text, own)
    except NotAsWritten as error:
        print(f"NOT AS WRITTEN: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
