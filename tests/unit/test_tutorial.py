"""Whether the reader of docs/tutorial.md would notice that it is wrong."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tutorial import DOCUMENT, ROOT, NotAsWritten, Reader, Step, agrees, follow, on_screen, put, steps

TIMEOUT_S = 20
UNTIL_CTRL_C = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("ready", flush=True)
signal.sigwait([signal.SIGINT])
print("bye")
"""
ENVIRONMENT = {"PATH": os.environ["PATH"], "TERM": "dumb"}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reading = Reader(tmp_path, ENVIRONMENT, TIMEOUT_S)
    yield reading
    reading.leave()


def sh(body: str, *words: str) -> Step:
    return Step(1, "sh", words, body)


def text(body: str, *words: str) -> Step:
    return Step(1, "text", words, body)


class TestReading:
    def test_steps_come_in_order(self) -> None:
        """Fences and addresses are steps, with the line on which they stand; the rest is prose."""
        document = "# T\n\n```sh first stays\nmake\n```\n\nSee <http://here:1/>.\n\n```python a.py\nx = 1\n```\n"
        assert list(steps(document)) == [
            Step(3, "sh", ("first", "stays"), "make\n"),
            Step(7, "open", (), "http://here:1/"),
            Step(9, "python", ("a.py",), "x = 1\n"),
        ]

    @pytest.mark.parametrize("fence", ["bash", "python", ""])
    def test_a_fence_of_another_kind_is_refused(self, fence: str) -> None:
        """No block is passed over in silence."""
        with pytest.raises(ValueError, match="nobody knows"):
            list(steps(f"```{fence or 'console'}\nls\n```\n"))

    def test_every_fence_of_the_tutorial_is_a_step(self) -> None:
        """None is lost, and both words that the reader replaces are told of in the prose."""
        document = (ROOT / DOCUMENT).read_text()
        fences = re.findall(r"^```\w", document, re.MULTILINE)
        read = [step for step in steps(document) if step.kind != "open"]
        assert len(read) == len(fences) > 10
        prose = document.partition("```")[0]
        assert "REPOSITORY" in prose
        assert "8000" in prose

    def test_words_are_replaced_where_they_stand_alone(self) -> None:
        """The reader's own takes the place of a word, not of a part of one."""
        assert put("clone REPO to :8000/, 80001", {"REPO": r"/a\1", "8000": "9"}) == r"clone /a\1 to :9/, 80001"


class TestComparing:
    @pytest.mark.parametrize(
        ("expected", "seen"),
        [
            ("took 1.5 s", "took 22 s"),
            ("a   b\n\n", "a b"),
            ("first\n...\nlast", "first\nx\ny\nlast"),
            ('{"a":1,...,"z":2}', '{"a":3,"b":4,"z":5}'),
            ("2026-11-24T02:09:45Z INFO Ready", "2027-01-01T00:00:00Z INFO Ready"),
        ],
    )
    def test_the_same(self, expected: str, seen: str) -> None:
        """Numbers, space and what is left out may differ."""
        assert agrees(expected, seen)

    @pytest.mark.parametrize(
        ("expected", "seen"),
        [("4 happy", "4 sad"), ("a", "a\nb"), ("a\nb", "a"), ("a...c", "ab"), ("", "warning"), ("a.c", "abc")],
    )
    def test_not_the_same(self, expected: str, seen: str) -> None:
        """Other words, more and less are told apart."""
        assert not agrees(expected, seen)

    def test_a_progress_bar_is_written_over(self) -> None:
        """What a terminal shows in the end counts."""
        assert on_screen("10%|#   |\r100%|####|\r          \rdone\r\n\x1b[1mnext\x1b[0m") == "done\nnext"


@pytest.mark.usefixtures("heeded_interrupt")
class TestFollowing:
    def test_a_shell_stays_where_it_is(self, reader: Reader, tmp_path: Path) -> None:
        """Folder and variables last from block to block; a program is saved in the folder of its shell."""
        reader.follow(sh("mkdir a && cd a\nx=7\n", "first"))
        reader.follow(Step(1, "python", ("p.py",), "print(1)\n"))
        reader.follow(sh('echo "x $x"\nls\n'))
        reader.follow(text("x 7\np.py\n"))
        assert (tmp_path / "a" / "p.py").read_text() == "print(1)\n"

    def test_every_command_has_to_succeed(self, reader: Reader) -> None:
        """One that fails in the middle of a block is told of, with its status."""
        with pytest.raises(NotAsWritten, match="status 3"):
            reader.follow(sh("(exit 3)\necho fine\n", "first"))

    def test_what_is_seen_has_to_be_written(self, reader: Reader) -> None:
        """Another output is told of, with what it was; errors are seen too."""
        reader.follow(sh("echo sad >&2\n", "first"))
        with pytest.raises(NotAsWritten, match="sad"):
            reader.follow(text("happy\n"))

    def test_ctrl_c_ends_what_stays(self, reader: Reader) -> None:
        """A program that goes on is seen from a second shell, and ends at Ctrl-C in its own."""
        reader.follow(sh(f"{sys.executable} -c '{UNTIL_CTRL_C}'\n", "first", "stays"))
        reader.follow(text("ready\n"))
        reader.follow(sh("echo here\n", "second"))
        reader.follow(text("here\n"))
        reader.follow(text("^C\nbye\n", "first"))

    def test_one_that_does_not_stay_is_told_of(self, reader: Reader) -> None:
        """Who waits for a program that has ended is not kept waiting for ever."""
        reader.follow(sh("exit\n", "first", "stays"))
        with pytest.raises(NotAsWritten, match="nothing more"):
            reader.follow(text("ready\n"))


def test_nothing_is_left_running(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that the document does not end is an error, and is ended."""
    document = "```sh first\nsleep 98765 &\n```\n"
    with pytest.raises(NotAsWritten, match="still running"):
        follow(document, {})
    assert "sleep" in capsys.readouterr().out
    running = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "98765"] not in running


def test_who_ends_it_leaves_nothing_running() -> None:
    """Programs that a terminal's end does not end, as the service, which reads its keys anew then, are ended too."""
    stays = "```sh first stays\ntrap '' HUP; echo ready; sleep 98764\n```\n"
    document = f"{stays}```text\nready\n```\n```text\nnever\n```\n"
    program = f"""
from types import SimpleNamespace
from tests import tutorial
tutorial.subprocess.run = lambda *_, **__: SimpleNamespace(stdout={document!r})
tutorial.main()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as tutorial:  # noqa: S603
        assert tutorial.stdout is not None
        next(line for line in tutorial.stdout if "ready" in line)
        tutorial.terminate()
    running = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "98764"] not in running


def test_the_line_that_is_wrong_is_named() -> None:
    """The error says where in the document, what was seen and what is written."""
    with pytest.raises(NotAsWritten, match=rf"{DOCUMENT}:5: (.|\n)*two(.|\n)*written:\nthree"):
        follow("```sh first\necho two\n```\n\n```text\nthree\n```\n", {})
